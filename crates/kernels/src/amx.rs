//! Intel AMX: whether it is there, and the one shape of tiles that kernels use.
//!
//! The instructions are written as `asm!`: their intrinsics are not stable yet.

use crate::Isa;
use std::arch::asm;
use std::marker::PhantomData;

/// Whether the machine has AMX with bf16 and the system lets this process use it.
pub(crate) fn is_available() -> bool {
    use std::sync::OnceLock;
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && request_permission())
}

/// CPUID leaf 7: EDX bit 22 is amx-bf16, bit 24 amx-tile; XCR0 bits 17 and 18 are the tiles' state.
fn has_instructions() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    const OSXSAVE: u32 = 1 << 27;
    const AMX: u32 = 1 << 22 | 1 << 24;
    const TILE_STATE: u64 = 0b11 << 17;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: the system has enabled XSAVE, as CPUID says.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: OSXSAVE was checked.
    __cpuid_count(7, 0).edx & AMX == AMX && unsafe { xcr0() } & TILE_STATE == TILE_STATE
}

/// Linux gives a process the tiles' state on demand only.
#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: the system call takes two integers and touches no memory of ours; the kernel
    // overwrites rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn request_permission() -> bool {
    false
}

/// Palette 1, eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Proof that this thread's tiles are configured, and of AVX-512 with bf16. It stays on its thread. Giving
/// the tiles up again keeps what the system saves of a thread small.
#[derive(Debug)]
pub(crate) struct Amx(PhantomData<*const ()>);

impl Amx {
    /// # Panics
    /// The machine lacks AMX.
    pub(crate) fn start() -> Self {
        Isa::Amx.assert_supported();
        // SAFETY: the instructions are there; the configuration is a valid one of palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
        Self(PhantomData)
    }
}

impl Drop for Amx {
    fn drop(&mut self) {
        // SAFETY: a value exists only where the instructions do.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
