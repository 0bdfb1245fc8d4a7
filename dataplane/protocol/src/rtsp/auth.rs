//! Basic and Digest (MD5, SHA-256) answers to `WWW-Authenticate` (RFC 7616), by the `http-auth` crate.
