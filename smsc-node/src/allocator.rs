//! The allocator, and that it gives memory back.
//!
//! The process locks its memory ([`smsc_node::memory`]), and the kernel takes nothing back from locked pages that are only
//! advised away, which is all that jemalloc does as it comes: a node would stay as large for ever as it once was. So free
//! memory is unmapped, by a thread of jemalloc's own, as an idle node would never get to it.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads before its first allocation (jemalloc(3), TUNING): a C string behind a thin pointer. Free memory
/// is unmapped over two seconds: what a checkpoint has freed is gone before the next one.
///
/// The unsafe attribute cannot be avoided: the library looks for its options under this name.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static OPTIONS: &[u8; 73] = b"retain:false,background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0\0";
