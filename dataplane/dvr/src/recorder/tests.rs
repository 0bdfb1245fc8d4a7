mod cutting;
mod failures;
mod rig;
mod schedules;
