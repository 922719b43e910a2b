//! An interpreter for filters: what would the kernel decide?
//!
//! It is for tests, and for measuring how much of the kernel a filter leaves open. A program is checked first by the
//! kernel's own rules (`bpf_check_classic` and `seccomp_check_filter`), so that running it cannot fail.
//!
//! ```
//! use bulkhead_seccomp::interpret::{Data, Interpreter};
//! use bulkhead_seccomp::{Arch, Instruction};
//!
//! // Load the number; is it 39? Then EPERM, else allow.
//! let program = [
//!     Instruction { code: 0x20, jt: 0, jf: 0, k: 0 },
//!     Instruction { code: 0x15, jt: 0, jf: 1, k: 39 },
//!     Instruction { code: 0x06, jt: 0, jf: 0, k: 0x0005_0001 },
//!     Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
//! ];
//! let filter = Interpreter::new(&program).unwrap();
//! assert_eq!(filter.run(&Data::new(Arch::X86_64, 39)).value, 0x0005_0001);
//! assert_eq!(filter.run(&Data::new(Arch::X86_64, 40)).value, 0x7fff_0000);
//! ```

use bulkhead_spec::Arch;

use crate::abi::{ByteOrder, abi};
use crate::bpf::{self, Instruction};

/// A system call as a filter sees it (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// The number of the call.
    pub number: u32,
    /// The architecture, as `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The address after the call's instruction.
    pub instruction_pointer: u64,
    /// The arguments.
    pub arguments: [u64; 6],
    /// How the machine orders the halves of arguments.
    pub order: ByteOrder,
}

impl Data {
    /// Describes a call on `arch` whose arguments are all 0.
    pub fn new(arch: Arch, number: u32) -> Self {
        let abi = abi(arch);
        Self { number, arch: abi.audit, instruction_pointer: 0, arguments: [0; 6], order: abi.order }
    }

    /// Returns the word at `offset`, which must be a multiple of 4 and less than 64.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            bpf::OFFSET_NUMBER => self.number,
            bpf::OFFSET_ARCH => self.arch,
            _ => {
                let index = (offset - 8) / 8;
                let whole = match index.checked_sub(1) {
                    Some(argument) => self.arguments[argument as usize],
                    None => self.instruction_pointer,
                };
                let second = !offset.is_multiple_of(8);
                if second == (self.order == ByteOrder::Little) { (whole >> 32) as u32 } else { whole as u32 }
            }
        }
    }
}

/// What a filter decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The value returned to the kernel: an action and its data.
    pub value: u32,
    /// How many instructions were executed.
    pub steps: usize,
}

/// Why the kernel would not take a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// It has no instructions, or more than 4096.
    #[error("a filter has 1 to 4096 instructions, not {0}")]
    Length(usize),
    /// Not an instruction, or one that filters of system calls may not use.
    #[error("instruction {0} has an unknown code")]
    Code(usize),
    /// It reads outside of `seccomp_data`, or not a whole word of it.
    #[error("instruction {0} reads outside of the call's data")]
    Offset(usize),
    /// It jumps behind the end.
    #[error("instruction {0} jumps out of the program")]
    Jump(usize),
    /// It divides by zero, or shifts by 32 bits or more.
    #[error("instruction {0} has an operand that it cannot compute with")]
    Operand(usize),
    /// It uses a memory word that does not exist, or reads one before it is written.
    #[error("instruction {0} reads memory that is not written")]
    Memory(usize),
    /// The last instruction does not return.
    #[error("the program does not end with a return")]
    End,
}

/// How many words of memory a program has.
const MEMORY: usize = 16;

/// A program that the kernel would take.
#[derive(Debug, Clone)]
pub struct Interpreter<'a> {
    program: &'a [Instruction],
}

impl<'a> Interpreter<'a> {
    /// Checks a program.
    ///
    /// # Errors
    /// Fails with the first reason for which the kernel would refuse it.
    pub fn new(program: &'a [Instruction]) -> Result<Self, Invalid> {
        if program.is_empty() || program.len() > bpf::MAX_INSTRUCTIONS {
            return Err(Invalid::Length(program.len()));
        }
        for (at, instruction) in program.iter().enumerate() {
            check(program, at, instruction)?;
        }
        match program.last() {
            Some(last) if matches!(Operation::decode(last), Some(Operation::Return(_))) => {}
            _ => return Err(Invalid::End),
        }
        check_memory(program)?;
        Ok(Self { program })
    }

    /// Runs the filter on a call.
    pub fn run(&self, data: &Data) -> Outcome {
        let mut machine = Machine { a: 0, x: 0, memory: [0; MEMORY] };
        let (mut at, mut steps) = (0, 0);
        loop {
            let instruction = &self.program[at];
            at += 1;
            steps += 1;
            match Operation::decode(instruction) {
                Some(Operation::Return(from)) => {
                    let value = if from == Source::Constant { instruction.k } else { machine.a };
                    return Outcome { value, steps };
                }
                Some(operation) => at += machine.execute(operation, instruction, data),
                // Checked: every code decodes.
                None => return Outcome { value: bpf::RET_KILL_PROCESS, steps },
            }
        }
    }

    /// Returns what the filter decides on all calls of this number, or nothing if their arguments matter.
    ///
    /// The kernel computes the same when a filter is loaded, and never runs the filter for a call that is always
    /// allowed. Like the kernel it gives up at instructions that our compiler does not use.
    pub fn constant(&self, arch: Arch, number: u32) -> Option<u32> {
        let data = Data::new(arch, number);
        let mut machine = Machine { a: 0, x: 0, memory: [0; MEMORY] };
        let mut at = 0;
        loop {
            let instruction = &self.program[at];
            at += 1;
            match Operation::decode(instruction)? {
                Operation::Return(Source::Constant) => return Some(instruction.k),
                Operation::LoadData if instruction.k > bpf::OFFSET_ARCH => return None,
                operation @ (Operation::LoadData
                | Operation::Jump
                | Operation::Branch(_, Source::Constant)
                | Operation::Compute(Arithmetic::And, Source::Constant)) => {
                    at += machine.execute(operation, instruction, &data);
                }
                _ => return None,
            }
        }
    }
}

/// The state of a program that runs.
struct Machine {
    a: u32,
    x: u32,
    memory: [u32; MEMORY],
}

impl Machine {
    /// Executes an instruction and returns how many are skipped after it.
    fn execute(&mut self, operation: Operation, instruction: &Instruction, data: &Data) -> usize {
        let k = instruction.k;
        let operand = |source, x| if source == Source::Constant { k } else { x };
        match operation {
            Operation::LoadData => self.a = data.word(k),
            Operation::Load(into, from) => {
                let value = match from {
                    Memory::Constant => k,
                    Memory::Length => bpf::DATA_SIZE,
                    Memory::Word => self.memory[k as usize],
                };
                *self.register(into) = value;
            }
            Operation::Store(from) => self.memory[k as usize] = *self.register(from),
            Operation::Copy(into) => match into {
                Register::A => self.a = self.x,
                Register::X => self.x = self.a,
            },
            Operation::Compute(arithmetic, source) => {
                self.a = arithmetic.apply(self.a, operand(source, self.x));
            }
            Operation::Jump => return k as usize,
            Operation::Branch(comparison, source) => {
                let holds = comparison.holds(self.a, operand(source, self.x));
                return usize::from(if holds { instruction.jt } else { instruction.jf });
            }
            Operation::Return(_) => {}
        }
        0
    }

    fn register(&mut self, register: Register) -> &mut u32 {
        match register {
            Register::A => &mut self.a,
            Register::X => &mut self.x,
        }
    }
}

/// What an instruction does: the codes that `seccomp_check_filter` lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    LoadData,
    Load(Register, Memory),
    Store(Register),
    Copy(Register),
    Compute(Arithmetic, Source),
    Jump,
    Branch(Comparison, Source),
    Return(Source),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    A,
    X,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Constant,
    Length,
    Word,
}

/// Where a second operand comes from: the instruction, or the other register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Constant,
    Register,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Or,
    And,
    ShiftLeft,
    ShiftRight,
    Negate,
    Xor,
}

impl Operation {
    /// Returns what an instruction does, or nothing if the kernel does not take its code.
    fn decode(instruction: &Instruction) -> Option<Self> {
        let source = if instruction.code & 0x08 == 0 { Source::Constant } else { Source::Register };
        Some(match instruction.code {
            0x20 => Self::LoadData,
            0x00 => Self::Load(Register::A, Memory::Constant),
            0x01 => Self::Load(Register::X, Memory::Constant),
            0x80 => Self::Load(Register::A, Memory::Length),
            0x81 => Self::Load(Register::X, Memory::Length),
            0x60 => Self::Load(Register::A, Memory::Word),
            0x61 => Self::Load(Register::X, Memory::Word),
            0x02 => Self::Store(Register::A),
            0x03 => Self::Store(Register::X),
            0x07 => Self::Copy(Register::X),
            0x87 => Self::Copy(Register::A),
            0x04 | 0x0c => Self::Compute(Arithmetic::Add, source),
            0x14 | 0x1c => Self::Compute(Arithmetic::Subtract, source),
            0x24 | 0x2c => Self::Compute(Arithmetic::Multiply, source),
            0x34 | 0x3c => Self::Compute(Arithmetic::Divide, source),
            0x44 | 0x4c => Self::Compute(Arithmetic::Or, source),
            0x54 | 0x5c => Self::Compute(Arithmetic::And, source),
            0x64 | 0x6c => Self::Compute(Arithmetic::ShiftLeft, source),
            0x74 | 0x7c => Self::Compute(Arithmetic::ShiftRight, source),
            0x84 => Self::Compute(Arithmetic::Negate, source),
            0xa4 | 0xac => Self::Compute(Arithmetic::Xor, source),
            0x05 => Self::Jump,
            0x15 | 0x1d => Self::Branch(Comparison::Equal, source),
            0x25 | 0x2d => Self::Branch(Comparison::Greater, source),
            0x35 | 0x3d => Self::Branch(Comparison::GreaterOrEqual, source),
            0x45 | 0x4d => Self::Branch(Comparison::AnyBit, source),
            0x06 => Self::Return(Source::Constant),
            0x16 => Self::Return(Source::Register),
            _ => return None,
        })
    }
}

impl Comparison {
    fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
            Self::AnyBit => a & b != 0,
        }
    }
}

impl Arithmetic {
    fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            Self::Add => a.wrapping_add(b),
            Self::Subtract => a.wrapping_sub(b),
            Self::Multiply => a.wrapping_mul(b),
            // The kernel's own rule for a divisor in a register.
            Self::Divide => a.checked_div(b).unwrap_or(0),
            Self::Or => a | b,
            Self::And => a & b,
            Self::ShiftLeft => a.wrapping_shl(b),
            Self::ShiftRight => a.wrapping_shr(b),
            Self::Negate => a.wrapping_neg(),
            Self::Xor => a ^ b,
        }
    }
}

/// Checks one instruction by itself.
fn check(program: &[Instruction], at: usize, instruction: &Instruction) -> Result<(), Invalid> {
    let lands = |skip: u64| at as u64 + 1 + skip < program.len() as u64;
    let k = instruction.k;
    let (reason, good): (fn(usize) -> Invalid, bool) = match Operation::decode(instruction) {
        None => (Invalid::Code, false),
        Some(Operation::LoadData) => (Invalid::Offset, k < bpf::DATA_SIZE && k.is_multiple_of(4)),
        Some(Operation::Load(_, Memory::Word) | Operation::Store(_)) => {
            (Invalid::Memory, (k as usize) < MEMORY)
        }
        Some(Operation::Compute(Arithmetic::Divide, Source::Constant)) => (Invalid::Operand, k != 0),
        Some(Operation::Compute(Arithmetic::ShiftLeft | Arithmetic::ShiftRight, Source::Constant)) => {
            (Invalid::Operand, k < 32)
        }
        Some(Operation::Jump) => (Invalid::Jump, lands(k.into())),
        Some(Operation::Branch(..)) => {
            (Invalid::Jump, lands(instruction.jt.into()) && lands(instruction.jf.into()))
        }
        Some(_) => (Invalid::Code, true),
    };
    if good { Ok(()) } else { Err(reason(at)) }
}

/// Checks that memory is written on every way to where it is read (`check_load_and_stores`).
fn check_memory(program: &[Instruction]) -> Result<(), Invalid> {
    let mut written_before = vec![u16::MAX; program.len()];
    let mut written = 0_u16;
    for (at, instruction) in program.iter().enumerate() {
        written &= written_before[at];
        let mut join = |skip: usize, written: u16| written_before[at + 1 + skip] &= written;
        match Operation::decode(instruction) {
            Some(Operation::Store(_)) => written |= 1 << instruction.k,
            Some(Operation::Load(_, Memory::Word)) if written & 1 << instruction.k == 0 => {
                return Err(Invalid::Memory(at));
            }
            Some(Operation::Jump) => {
                join(instruction.k as usize, written);
                written = u16::MAX;
            }
            Some(Operation::Branch(..)) => {
                join(instruction.jt.into(), written);
                join(instruction.jf.into(), written);
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code, jt, jf, k.
    type Short = (u16, u8, u8, u32);

    fn program(of: &[Short]) -> Vec<Instruction> {
        of.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect()
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let end = (bpf::RETURN, 0, 0, 0);
        let cases: [(&[Short], Invalid); 14] = [
            (&[], Invalid::Length(0)),
            (&[end; 4097], Invalid::Length(4097)),
            (&[(0x28, 0, 0, 0), end], Invalid::Code(0)),
            (&[(0x94, 0, 0, 1), end], Invalid::Code(0)),
            (&[(0x20, 0, 0, 64), end], Invalid::Offset(0)),
            (&[(0x20, 0, 0, 2), end], Invalid::Offset(0)),
            (&[(0x05, 0, 0, 1), end], Invalid::Jump(0)),
            (&[(0x05, 0, 0, u32::MAX), end], Invalid::Jump(0)),
            (&[(0x15, 1, 0, 0), end], Invalid::Jump(0)),
            (&[(0x15, 0, 1, 0), end], Invalid::Jump(0)),
            (&[(0x34, 0, 0, 0), end], Invalid::Operand(0)),
            (&[(0x64, 0, 0, 32), end], Invalid::Operand(0)),
            (&[(0x02, 0, 0, 16), end], Invalid::Memory(0)),
            (&[(0x20, 0, 0, 0)], Invalid::End),
        ];
        for (instructions, expected) in cases {
            let program = program(instructions);
            let shown = &instructions[..instructions.len().min(2)];
            assert_eq!(Interpreter::new(&program).unwrap_err(), expected, "{shown:?}");
        }
        let longest = program(&[end; 4096]);
        assert!(Interpreter::new(&longest).is_ok());
    }

    #[test]
    fn memory_must_be_written_on_every_way() {
        let skipped = program(&[(0x15, 1, 0, 0), (0x02, 0, 0, 3), (0x60, 0, 0, 3), (0x16, 0, 0, 0)]);
        assert_eq!(Interpreter::new(&skipped).unwrap_err(), Invalid::Memory(2));
        let both =
            program(&[(0x02, 0, 0, 3), (0x15, 1, 0, 0), (0x02, 0, 0, 3), (0x60, 0, 0, 3), (0x16, 0, 0, 0)]);
        assert!(Interpreter::new(&both).is_ok());
    }

    #[test]
    fn arithmetic_is_the_kernels() {
        let cases = [
            (0x04, 7, 5, 12),
            (0x14, 5, 7, u32::MAX - 1),
            (0x24, 1 << 31, 2, 0),
            (0x34, 7, 2, 3),
            (0x44, 0b0101, 0b0011, 0b0111),
            (0x54, 0b0101, 0b0011, 0b0001),
            (0x64, 1, 31, 1 << 31),
            (0x74, 1 << 31, 31, 1),
            (0x84, 1, 0, u32::MAX),
            (0xa4, 0b0101, 0b0011, 0b0110),
        ];
        for (code, a, k, expected) in cases {
            let constant = program(&[(0x00, 0, 0, a), (code, 0, 0, k), (0x16, 0, 0, 0)]);
            let outcome = Interpreter::new(&constant).unwrap().run(&Data::new(Arch::X86_64, 0));
            assert_eq!(outcome, Outcome { value: expected, steps: 3 }, "{code:#x}");
            if code != 0x84 {
                let register =
                    program(&[(0x01, 0, 0, k), (0x00, 0, 0, a), (code | 8, 0, 0, 0), (0x16, 0, 0, 0)]);
                let outcome = Interpreter::new(&register).unwrap().run(&Data::new(Arch::X86_64, 0));
                assert_eq!(outcome.value, expected, "{code:#x} with X");
            }
        }
        let by_zero = program(&[(0x00, 0, 0, 9), (0x3c, 0, 0, 0), (0x16, 0, 0, 0)]);
        assert_eq!(Interpreter::new(&by_zero).unwrap().run(&Data::new(Arch::X86_64, 0)).value, 0);
    }

    #[test]
    fn every_word_of_the_data_is_where_the_kernel_puts_it() {
        let mut data = Data::new(Arch::X86_64, 1);
        data.instruction_pointer = 0x0000_0003_0000_0002;
        for (index, argument) in data.arguments.iter_mut().enumerate() {
            let low = 4 + 2 * index as u64;
            *argument = (low + 1) << 32 | low;
        }
        let words: Vec<u32> = (0..16).map(|index| data.word(4 * index)).collect();
        assert_eq!(words[0], 1);
        assert_eq!(words[1], 0xc000_003e);
        assert_eq!(words[2..], (2..16).collect::<Vec<u32>>());
        data.order = ByteOrder::Big;
        let words: Vec<u32> = (2..16).map(|index| data.word(4 * index)).collect();
        assert_eq!(words, (2..16).map(|word| word ^ 1).collect::<Vec<u32>>(), "halves are exchanged");
    }

    #[test]
    fn a_verdict_is_constant_unless_arguments_are_read() {
        let by_argument =
            program(&[(0x20, 0, 0, 0), (0x15, 1, 0, 5), (0x06, 0, 0, 7), (0x20, 0, 0, 16), (0x16, 0, 0, 0)]);
        let filter = Interpreter::new(&by_argument).unwrap();
        assert_eq!(filter.constant(Arch::X86_64, 4), Some(7));
        assert_eq!(filter.constant(Arch::X86_64, 5), None);
    }
}
