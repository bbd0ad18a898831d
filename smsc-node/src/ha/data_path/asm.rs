//! A small assembler for the kernel's eBPF (RFC 9669): named instructions, labels, eight bytes each.
//!
//! The few dozen instructions of one filter are written out in Rust, so that building the program takes no compiler for
//! another machine and starting it reads no object file.

/// A register. `R0` carries results, `R1` to `R5` arguments; `R6` to `R9` survive calls; `R10` is the top of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R10 = 10,
}

/// How much a load reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Byte,
    Word,
    Double,
}

/// A function of the kernel that a filter may call (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Helper {
    MapLookupElem = 1,
    KtimeGetNs = 5,
    SkbLoadBytes = 26,
}

/// A place in the program, possibly ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Collects instructions; [`finish`](Self::finish) fills in where the jumps go.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Instruction>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    opcode: u8,
    dst: u8,
    src: u8,
    offset: i16,
    immediate: i32,
}

// Opcodes: class, operation and operand kind or'ed together (RFC 9669 sections 3 to 5).
const MOV64_IMM: u8 = 0xb7;
const MOV64_REG: u8 = 0xbf;
const ADD64_IMM: u8 = 0x07;
const AND32_IMM: u8 = 0x54;
const LOAD_BYTE: u8 = 0x71;
const LOAD_WORD: u8 = 0x61;
const LOAD_DOUBLE: u8 = 0x79;
const LOAD_IMM64: u8 = 0x18;
const STORE_WORD_IMM: u8 = 0x62;
const ATOMIC_DOUBLE: u8 = 0xdb;
const JUMP: u8 = 0x05;
const JUMP64_EQ_IMM: u8 = 0x15;
const JUMP64_NE_IMM: u8 = 0x55;
const JUMP64_NE_REG: u8 = 0x5d;
const JUMP64_GT_REG: u8 = 0x2d;
const JUMP32_EQ_IMM: u8 = 0x16;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// In the source field of [`LOAD_IMM64`]: the immediate is the file descriptor of a map.
const PSEUDO_MAP_FD: u8 = 1;
/// In the immediate of [`ATOMIC_DOUBLE`]: add.
const ATOMIC_ADD: i32 = 0;

impl Assembler {
    /// A label to be placed later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts `label` in front of the next instruction.
    pub(super) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// `dst = value`
    pub(super) fn set(&mut self, dst: Reg, value: i32) {
        self.push(MOV64_IMM, dst as u8, 0, 0, value);
    }

    /// `dst = src`
    pub(super) fn copy(&mut self, dst: Reg, src: Reg) {
        self.push(MOV64_REG, dst as u8, src as u8, 0, 0);
    }

    /// `dst += value`
    pub(super) fn add(&mut self, dst: Reg, value: i32) {
        self.push(ADD64_IMM, dst as u8, 0, 0, value);
    }

    /// `dst = low 32 bits of dst & mask`
    pub(super) fn and(&mut self, dst: Reg, mask: i32) {
        self.push(AND32_IMM, dst as u8, 0, 0, mask);
    }

    /// `dst = *(base + offset)`
    pub(super) fn load(&mut self, width: Width, dst: Reg, base: Reg, offset: i16) {
        let opcode = match width {
            Width::Byte => LOAD_BYTE,
            Width::Word => LOAD_WORD,
            Width::Double => LOAD_DOUBLE,
        };
        self.push(opcode, dst as u8, base as u8, offset, 0);
    }

    /// `*(u32 *)(base + offset) = value`
    pub(super) fn store_word(&mut self, base: Reg, offset: i16, value: i32) {
        self.push(STORE_WORD_IMM, base as u8, 0, offset, value);
    }

    /// `dst = value`, all 64 bits of it; takes two slots.
    pub(super) fn set64(&mut self, dst: Reg, value: u64) {
        self.push(LOAD_IMM64, dst as u8, 0, 0, low(value));
        self.push(0, 0, 0, 0, low(value >> 32));
    }

    /// `dst = the map behind this file descriptor`; takes two slots.
    pub(super) fn set_map(&mut self, dst: Reg, map_fd: i32) {
        self.push(LOAD_IMM64, dst as u8, PSEUDO_MAP_FD, 0, map_fd);
        self.push(0, 0, 0, 0, 0);
    }

    /// `*(u64 *)(base + offset) += src`, whatever other processors do meanwhile.
    pub(super) fn atomic_add(&mut self, base: Reg, offset: i16, src: Reg) {
        self.push(ATOMIC_DOUBLE, base as u8, src as u8, offset, ATOMIC_ADD);
    }

    /// Goes on at `to`.
    pub(super) fn jump(&mut self, to: Label) {
        self.jump_to(JUMP, 0, 0, 0, to);
    }

    /// Goes on at `to` if `dst == value`.
    pub(super) fn jump_if_eq(&mut self, dst: Reg, value: i32, to: Label) {
        self.jump_to(JUMP64_EQ_IMM, dst as u8, 0, value, to);
    }

    /// Goes on at `to` if `dst != value`.
    pub(super) fn jump_if_ne(&mut self, dst: Reg, value: i32, to: Label) {
        self.jump_to(JUMP64_NE_IMM, dst as u8, 0, value, to);
    }

    /// Goes on at `to` if `dst != src`.
    pub(super) fn jump_if_ne_reg(&mut self, dst: Reg, src: Reg, to: Label) {
        self.jump_to(JUMP64_NE_REG, dst as u8, src as u8, 0, to);
    }

    /// Goes on at `to` if `dst > src`, both unsigned.
    pub(super) fn jump_if_gt_reg(&mut self, dst: Reg, src: Reg, to: Label) {
        self.jump_to(JUMP64_GT_REG, dst as u8, src as u8, 0, to);
    }

    /// Goes on at `to` if the low 32 bits of `dst` are `value`. (A comparison of 64 bits would extend the sign.)
    pub(super) fn jump_if_eq32(&mut self, dst: Reg, value: u32, to: Label) {
        self.jump_to(JUMP32_EQ_IMM, dst as u8, 0, low(value.into()), to);
    }

    /// `r0 = helper(r1, ...)`; `R1` to `R5` hold nothing afterwards.
    pub(super) fn call(&mut self, helper: Helper) {
        self.push(CALL, 0, 0, 0, helper as i32);
    }

    /// Ends with what is in `R0`.
    pub(super) fn exit(&mut self) {
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// The program as the kernel wants it.
    ///
    /// # Panics
    /// If a label that is jumped to was never placed: a fault of the caller's.
    pub(super) fn finish(mut self) -> Vec<u64> {
        for (at, label) in &self.jumps {
            let target = self.labels[label.0].expect("every label that is jumped to is placed");
            let distance = target as i64 - (*at as i64 + 1);
            self.code[*at].offset = i16::try_from(distance).expect("filters are a few hundred instructions long");
        }
        self.code.into_iter().map(Instruction::encode).collect()
    }

    fn jump_to(&mut self, opcode: u8, dst: u8, src: u8, immediate: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(opcode, dst, src, 0, immediate);
    }

    fn push(&mut self, opcode: u8, dst: u8, src: u8, offset: i16, immediate: i32) {
        self.code.push(Instruction { opcode, dst, src, offset, immediate });
    }
}

impl Instruction {
    /// struct bpf_insn in this host's byte order.
    fn encode(self) -> u64 {
        let registers =
            if cfg!(target_endian = "little") { self.src << 4 | self.dst } else { self.dst << 4 | self.src };
        let [o0, o1] = self.offset.to_ne_bytes();
        let [i0, i1, i2, i3] = self.immediate.to_ne_bytes();
        u64::from_ne_bytes([self.opcode, registers, o0, o1, i0, i1, i2, i3])
    }
}

/// The low 32 bits, as an immediate holds them.
fn low(value: u64) -> i32 {
    value as u32 as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(code: &[u64]) -> Vec<[u8; 8]> {
        code.iter().map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_the_rfc_says() {
        let mut asm = Assembler::default();
        asm.copy(Reg::R6, Reg::R1);
        asm.load(Width::Word, Reg::R7, Reg::R6, 16);
        asm.set64(Reg::R2, 0x1122_3344_5566_7788);
        asm.set_map(Reg::R1, 5);
        asm.call(Helper::KtimeGetNs);
        asm.set(Reg::R0, -1);
        asm.exit();
        let expected = [
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0x61, 0x67, 16, 0, 0, 0, 0, 0],
            [0x18, 0x02, 0, 0, 0x88, 0x77, 0x66, 0x55],
            [0x00, 0x00, 0, 0, 0x44, 0x33, 0x22, 0x11],
            [0x18, 0x11, 0, 0, 5, 0, 0, 0],
            [0x00, 0x00, 0, 0, 0, 0, 0, 0],
            [0x85, 0x00, 0, 0, 5, 0, 0, 0],
            [0xb7, 0x00, 0, 0, 0xff, 0xff, 0xff, 0xff],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(bytes(&asm.finish()), expected);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_jump_counts_from_the_instruction_behind_it_and_wide_ones_are_two() {
        let mut asm = Assembler::default();
        let end = asm.label();
        asm.jump_if_eq32(Reg::R0, 0xc0a8_0001, end);
        asm.set64(Reg::R1, 1);
        asm.place(end);
        asm.exit();
        assert_eq!(bytes(&asm.finish())[0], [0x16, 0, 2, 0, 0x01, 0x00, 0xa8, 0xc0]);
    }
}
