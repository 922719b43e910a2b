//! Runs a device program as the kernel would, for tests: no kernel is needed, and every access can be tried.

use bulkhead_sys::bpf::Instruction;

use super::v2::{
    AND, BLOCK, CHAR, EXIT, JUMP, JUMP_IF_ANY_BIT, JUMP_IF_UNEQUAL, LOAD_WORD, MOVE, MOVE_REGISTER,
    SHIFT_RIGHT,
};
use super::{Access, Kind};

/// Something that a process wants to do with a device node.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The kind of the node.
    pub kind: Kind,
    /// What it wants to do, all at once.
    pub access: Access,
    /// The node's number.
    pub major: u32,
    /// The node's number.
    pub minor: u32,
}

/// Tells whether a program allows a request; `None` when it is no program that [`super::program`] makes.
pub fn run(program: &[Instruction], request: Request) -> Option<bool> {
    let Request { kind, access, major, minor } = request;
    let kind = match kind {
        Kind::Char => CHAR,
        Kind::Block => BLOCK,
    };
    let context = [u32::from(access.bits()) << 16 | kind as u32, major, minor];
    let mut registers = [0_u64; 6];
    let mut at = 0_usize;
    loop {
        let Instruction { code, registers: pair, offset, immediate } = *program.get(at)?;
        let from = *registers.get(usize::from(pair >> 4))?;
        let to = registers.get_mut(usize::from(pair & 15))?;
        at += 1;
        let mut jumps = false;
        match code {
            LOAD_WORD => *to = u64::from(*context.get(usize::try_from(offset).ok()? / 4)?),
            MOVE_REGISTER => *to = from,
            MOVE => *to = immediate as u64,
            AND => *to &= immediate as u64,
            SHIFT_RIGHT => *to >>= u32::try_from(immediate).ok().filter(|bits| *bits < 64)?,
            JUMP => jumps = true,
            JUMP_IF_UNEQUAL => jumps = *to as u32 != immediate as u32,
            JUMP_IF_ANY_BIT => jumps = *to as u32 & immediate as u32 != 0,
            EXIT => return Some(registers[0] == 1),
            _ => return None,
        }
        if jumps {
            // The kernel takes no program that jumps back, and neither does this loop for ever.
            at += usize::try_from(offset).ok()?;
        }
    }
}
