//! A kernel that refuses io_uring, for one process alone: what container profiles and hardened
//! hosts do.
#![allow(unsafe_code, clippy::cast_possible_truncation)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The command, and all that it starts, gets EPERM for io_uring_setup.
pub fn refuse_io_uring(command: &mut Command) {
    // SAFETY: between fork and exec nothing but two system calls on data of the stack is done.
    unsafe { command.pre_exec(install) };
}

/// The command, and all that it starts, gets ENOMEM where it lends a ring its buffers, which a core
/// does and a probe does not.
pub fn refuse_buffer_rings(command: &mut Command) {
    const NUMBER: u32 = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    // The lower half of the second argument.
    const OPERATION: u32 = std::mem::offset_of!(libc::seccomp_data, args) as u32 + 8;
    const REGISTER: u32 = libc::SYS_io_uring_register as u32;
    const PBUF_RING: u32 = 22;
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, NUMBER),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 3, REGISTER),
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, OPERATION),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, PBUF_RING),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::ENOMEM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: between fork and exec nothing but two system calls on data of the closure is done.
    unsafe { command.pre_exec(move || install_program(&program)) };
}

fn install() -> io::Result<()> {
    const NUMBER: u32 = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    const SETUP: u32 = libc::SYS_io_uring_setup as u32;
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    install_program(&[
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, NUMBER),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, SETUP),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ])
}

fn install_program(program: &[libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: prctl reads the program, whose instructions live across the call; the first call
    // takes numbers only.
    let answers = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    if answers == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
}
