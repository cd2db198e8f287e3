//! Every kind of hazard, each with a kernel that has it and nothing else, and a clean twin.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "hazards/cube.rs"]
mod cube;
#[path = "hazards/flags.rs"]
mod flags;
#[path = "hazards/memory.rs"]
mod memory;
#[path = "hazards/order.rs"]
mod order;
#[path = "hazards/rig.rs"]
mod rig;
#[path = "hazards/time.rs"]
mod time;
#[path = "hazards/vectors.rs"]
mod vectors;
