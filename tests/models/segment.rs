//! The library's types for shared memory.

#[path = "../../src/segment/layout.rs"]
mod layout;
#[path = "../../src/segment/schema.rs"]
mod schema;
#[path = "../../src/segment/shareable.rs"]
mod shareable;

pub use layout::Layout;
pub use schema::{Schema, field_path};
pub use shareable::{Shareable, Tail};
