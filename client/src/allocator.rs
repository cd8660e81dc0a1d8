//! How the C library's allocator is to hold memory. Every process of a cluster decodes row groups on many
//! threads: with an arena a thread and a threshold that grows with what is freed, it keeps up to half as much again as
//! the data takes. Other C libraries than GNU's are left as they are.

/// Sets the allocator up; called first, before there are threads.
pub(crate) fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    gnu();
}

/// Buffers of this size and more are mapped, and go back to the system when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: i32 = 2 << 20;

/// Free memory at the end of an arena up to which it is kept: giving it back and asking again for each batch of a query
/// cost it a tenth of its CPU time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 8 << 20;

/// What an arena grows by at least.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const GROWTH: i32 = 4 << 20;

/// Arenas: few enough to hold little back, enough that threads seldom wait (small buffers are each thread's own).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn gnu() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arenas = i32::try_from((cores / 4).clamp(2, 16)).unwrap_or(2);
    let user_decides = |variable: &str| std::env::var_os(variable).is_some() || std::env::var_os("GLIBC_TUNABLES").is_some();
    if !user_decides("MALLOC_ARENA_MAX") {
        // SAFETY: mallopt takes two plain numbers and changes tunables of the allocator. Nothing else runs yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    }
    if !user_decides("MALLOC_MMAP_THRESHOLD_") {
        // SAFETY: as above.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED) };
    }
    if !user_decides("MALLOC_TRIM_THRESHOLD_") {
        // SAFETY: as above.
        unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT) };
    }
    if !user_decides("MALLOC_TOP_PAD_") {
        // SAFETY: as above.
        unsafe { libc::mallopt(libc::M_TOP_PAD, GROWTH) };
    }
}
