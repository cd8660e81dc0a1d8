//! How the C library's allocator is to hold memory. Every process of a cluster decodes row groups on many
//! threads: with an arena a thread and a threshold that grows with what is freed, it keeps up to half as much again as
//! the data takes. Other C libraries than GNU's are left as they are.

/// Sets the allocator up; called first, before there are threads.
pub(crate) fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    gnu();
}

/// A worker that may take so much memory keeps a share of it rather than to give it back and ask again for each batch of a
/// query, which cost a tenth of its CPU time.
pub(crate) fn settle_for(memory_bytes: u64) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    thresholds(memory_bytes);
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = memory_bytes;
}

/// Buffers of this size and more are mapped, and go back to the system when they are freed: at least, at most (the most that
/// the library takes); in between a 64th of the memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: [u64; 2] = [2 << 20, 32 << 20];

/// Free memory at the end of an arena up to which it is kept: at least, at most; in between a 32nd of the memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: [u64; 2] = [8 << 20, 64 << 20];

/// What an arena grows by at least.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const GROWTH: i32 = 4 << 20;

/// Arenas: few enough to hold little back, enough that threads seldom wait (small buffers are each thread's own).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn gnu() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arenas = i32::try_from((cores / 4).clamp(2, 16)).unwrap_or(2);
    set("MALLOC_ARENA_MAX", libc::M_ARENA_MAX, arenas);
    set("MALLOC_TOP_PAD_", libc::M_TOP_PAD, GROWTH);
    thresholds(0);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn thresholds(memory_bytes: u64) {
    let share = |of: u64, [least, most]: [u64; 2]| (memory_bytes / of).clamp(least, most) as i32;
    set("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, share(64, MAPPED));
    set("MALLOC_TRIM_THRESHOLD_", libc::M_TRIM_THRESHOLD, share(32, KEPT));
}

/// Sets what the user's environment leaves open.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(variable: &str, parameter: i32, value: i32) {
    if std::env::var_os(variable).is_none() && std::env::var_os("GLIBC_TUNABLES").is_none() {
        // SAFETY: mallopt takes two plain numbers and changes tunables of the allocator, under its own lock.
        unsafe { libc::mallopt(parameter, value) };
    }
}
