//! The control plane: REST, signalling and the program.
