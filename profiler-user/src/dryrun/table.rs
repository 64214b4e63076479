//! Which function interprets which instruction.

use iced_x86::{Code, ConditionCode, EncodingKind, Instruction, Mnemonic, OpKind, Register};

use super::code::Op;
use super::cpu::Cpu;
use super::unknown::Why;
use super::vector::Packed;
use super::{bits, integer, moves, multiply, shift, string, vector_float, vector_integer, vector_move, vector_shuffle};

/// A function that carries out one instruction.
pub(super) type Plain = fn(&mut Cpu<'_>, &Op) -> Result<(), Why>;

/// How an instruction is carried out.
#[derive(Clone, Copy)]
pub(super) enum Exec {
    Plain(Plain),
    Packed(Packed),
}

/// For instructions without effect here: hints, fences, prefetches.
#[expect(clippy::unnecessary_wraps, reason = "the shape of every instruction")]
pub(super) fn nothing(_: &mut Cpu<'_>, _: &Op) -> Result<(), Why> {
    Ok(())
}

/// How to carry out `instruction`, if it is one the interpreter has.
pub(super) fn implementation(instruction: &Instruction) -> Option<Exec> {
    let mnemonic = instruction.mnemonic();
    if is_odd(instruction) {
        return None;
    }
    if is_hint(mnemonic) {
        return Some(Exec::Plain(nothing));
    }
    if !has_known_operands(instruction) {
        return None;
    }
    if instruction.op_kinds().any(is_implicit_memory) {
        return has_usual_addresses(instruction).then(|| string_instruction(mnemonic)).flatten().map(Exec::Plain);
    }
    by_name(mnemonic).or_else(|| conditional(instruction).map(Exec::Plain))
}

/// The implementation of all instructions of a name but string instructions and conditional ones.
fn by_name(mnemonic: Mnemonic) -> Option<Exec> {
    integer_instruction(mnemonic)
        .or_else(|| vector_instruction(mnemonic))
        .map(Exec::Plain)
        .or_else(|| packed(mnemonic).map(Exec::Packed))
}

/// Whether there is an implementation for some instruction of that name; of conditional ones nothing is said.
#[cfg(test)]
pub(super) fn knows(mnemonic: Mnemonic) -> bool {
    is_hint(mnemonic) || by_name(mnemonic).is_some() || string_instruction(mnemonic).is_some()
}

fn packed(mnemonic: Mnemonic) -> Option<Packed> {
    vector_integer::find(mnemonic).or_else(|| vector_shuffle::find(mnemonic)).or_else(|| vector_float::find(mnemonic))
}

/// Encodings no compiler makes, and whose effect differs between processors or from what the decoder says.
fn is_odd(instruction: &Instruction) -> bool {
    use Code as C;
    match instruction.code() {
        // Whether a compare-exchange of a register that fails clears its upper half.
        C::Cmpxchg_rm8_r8 | C::Cmpxchg_rm16_r16 | C::Cmpxchg_rm32_r32 | C::Cmpxchg_rm64_r64 => {
            instruction.op0_kind() == OpKind::Register
        }
        // With a REX prefix it may be an exchange.
        C::Pause => instruction.len() > 2,
        // 16 bits: undefined by the manuals, or of a stack that is not of 8-byte words.
        C::Bswap_r16 | C::Leavew | C::Push_imm16 | C::Pushw_imm8 => true,
        _ => false,
    }
}

/// Instructions whose operands, if any, are not touched.
fn is_hint(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Nop
            | M::Endbr64
            | M::Endbr32
            | M::Pause
            | M::Lfence
            | M::Mfence
            | M::Sfence
            | M::Prefetchnta
            | M::Prefetcht0
            | M::Prefetcht1
            | M::Prefetcht2
            | M::Prefetchw
            | M::Prefetch
    )
}

/// No MMX, x87, mask, segment or control registers; no EVEX; memory operands of a size that can be.
fn has_known_operands(instruction: &Instruction) -> bool {
    if !matches!(instruction.code().encoding(), EncodingKind::Legacy | EncodingKind::VEX) {
        return false;
    }
    (0..instruction.op_count()).all(|k| match instruction.op_kind(k) {
        OpKind::Register => {
            let register = instruction.op_register(k);
            register.is_gpr() || (register.is_xmm() || register.is_ymm()) && register.number() < 16
        }
        OpKind::Memory => {
            let vector_index = instruction.memory_index().is_vector_register();
            let sized = (1..=32).contains(&instruction.memory_size().size());
            !vector_index && (sized || instruction.mnemonic() == Mnemonic::Lea)
        }
        _ => true,
    })
}

/// Memory at `rsi` or `rdi` without saying so: string instructions (and `maskmovdqu`), some of which share the name of
/// a vector instruction.
fn is_implicit_memory(kind: OpKind) -> bool {
    use OpKind as K;
    matches!(
        kind,
        K::MemorySegSI
            | K::MemorySegESI
            | K::MemorySegRSI
            | K::MemorySegDI
            | K::MemorySegEDI
            | K::MemorySegRDI
            | K::MemoryESDI
            | K::MemoryESEDI
            | K::MemoryESRDI
    )
}

/// Whether a string instruction has 64-bit addresses in the flat segment.
fn has_usual_addresses(instruction: &Instruction) -> bool {
    let narrow = |kind| is_implicit_memory(kind) && !matches!(kind, OpKind::MemorySegRSI | OpKind::MemoryESRDI);
    !instruction.op_kinds().any(narrow) && !matches!(instruction.memory_segment(), Register::FS | Register::GS)
}

fn string_instruction(mnemonic: Mnemonic) -> Option<Plain> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Movsb | M::Movsw | M::Movsd | M::Movsq => string::op_movs,
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => string::op_stos,
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => string::op_lods,
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq => string::op_cmps,
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => string::op_scas,
        _ => return None,
    })
}

fn integer_instruction(mnemonic: Mnemonic) -> Option<Plain> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Mov | M::Movzx | M::Movnti => moves::op_mov,
        M::Movsx | M::Movsxd => moves::op_movsx,
        M::Movbe => moves::op_movbe,
        M::Bswap => moves::op_bswap,
        M::Lea => moves::op_lea,
        M::Xchg => moves::op_xchg,
        M::Push => moves::op_push,
        M::Pop => moves::op_pop,
        M::Leave => moves::op_leave,
        M::Cbw => moves::op_cbw,
        M::Cwde => moves::op_cwde,
        M::Cdqe => moves::op_cdqe,
        M::Cwd => moves::op_cwd,
        M::Cdq => moves::op_cdq,
        M::Cqo => moves::op_cqo,
        M::Add => integer::op_add,
        M::Adc => integer::op_adc,
        M::Sub => integer::op_sub,
        M::Sbb => integer::op_sbb,
        M::Cmp => integer::op_cmp,
        M::And => integer::op_and,
        M::Or => integer::op_or,
        M::Xor => integer::op_xor,
        M::Test => integer::op_test,
        M::Inc => integer::op_inc,
        M::Dec => integer::op_dec,
        M::Neg => integer::op_neg,
        M::Not => integer::op_not,
        M::Xadd => integer::op_xadd,
        M::Cmpxchg => integer::op_cmpxchg,
        M::Cmpxchg8b | M::Cmpxchg16b => integer::op_cmpxchg_pair,
        M::Adcx => integer::op_adcx,
        M::Adox => integer::op_adox,
        M::Stc => integer::op_stc,
        M::Clc => integer::op_clc,
        M::Cmc => integer::op_cmc,
        M::Std => integer::op_std,
        M::Cld => integer::op_cld,
        M::Lahf => integer::op_lahf,
        M::Sahf => integer::op_sahf,
        M::Mul => multiply::op_mul,
        M::Imul => multiply::op_imul,
        M::Mulx => multiply::op_mulx,
        M::Div => multiply::op_div,
        M::Idiv => multiply::op_idiv,
        M::Shl | M::Sal => shift::op_shl,
        M::Shr => shift::op_shr,
        M::Sar => shift::op_sar,
        M::Rol => shift::op_rol,
        M::Ror => shift::op_ror,
        M::Rcl => shift::op_rcl,
        M::Rcr => shift::op_rcr,
        M::Shld => shift::op_shld,
        M::Shrd => shift::op_shrd,
        M::Shlx => shift::op_shlx,
        M::Shrx => shift::op_shrx,
        M::Sarx => shift::op_sarx,
        M::Rorx => shift::op_rorx,
        M::Bt => bits::op_bt,
        M::Bts => bits::op_bts,
        M::Btr => bits::op_btr,
        M::Btc => bits::op_btc,
        M::Bsf => bits::op_bsf,
        M::Bsr => bits::op_bsr,
        M::Tzcnt => bits::op_tzcnt,
        M::Lzcnt => bits::op_lzcnt,
        M::Popcnt => bits::op_popcnt,
        M::Andn => bits::op_andn,
        M::Blsr => bits::op_blsr,
        M::Blsi => bits::op_blsi,
        M::Blsmsk => bits::op_blsmsk,
        M::Bextr => bits::op_bextr,
        M::Bzhi => bits::op_bzhi,
        M::Pdep => bits::op_pdep,
        M::Pext => bits::op_pext,
        M::Crc32 => bits::op_crc32,
        _ => return None,
    })
}

/// `cmovcc` and `setcc`.
fn conditional(instruction: &Instruction) -> Option<Plain> {
    if instruction.condition_code() == ConditionCode::None || instruction.is_jcc_short_or_near() {
        return None;
    }
    match instruction.op_count() {
        1 if instruction.op0_kind() != OpKind::NearBranch64 => Some(moves::op_set),
        2 => Some(moves::op_cmov),
        _ => None,
    }
}

fn vector_instruction(mnemonic: Mnemonic) -> Option<Plain> {
    vector_moving(mnemonic).or_else(|| vector_shaping(mnemonic)).or_else(|| vector_converting(mnemonic))
}

fn vector_moving(mnemonic: Mnemonic) -> Option<Plain> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Movaps
        | M::Movapd
        | M::Movups
        | M::Movupd
        | M::Movdqa
        | M::Movdqu
        | M::Lddqu
        | M::Movntps
        | M::Movntpd
        | M::Movntdq
        | M::Movntdqa
        | M::Vmovaps
        | M::Vmovapd
        | M::Vmovups
        | M::Vmovupd
        | M::Vmovdqa
        | M::Vmovdqu
        | M::Vlddqu
        | M::Vmovntps
        | M::Vmovntpd
        | M::Vmovntdq
        | M::Vmovntdqa => vector_move::op_move,
        M::Movd | M::Vmovd => vector_move::op_movd,
        M::Movq | M::Vmovq => vector_move::op_movq,
        M::Movss | M::Vmovss => vector_move::op_movss,
        M::Movsd | M::Vmovsd => vector_move::op_movsd,
        M::Movlps | M::Movlpd | M::Movhlps | M::Vmovlps | M::Vmovlpd | M::Vmovhlps => vector_move::op_move_into_low,
        M::Movhps | M::Movhpd | M::Movlhps | M::Vmovhps | M::Vmovhpd | M::Vmovlhps => vector_move::op_move_into_high,
        M::Pmovmskb | M::Vpmovmskb => vector_move::op_pmovmskb,
        M::Movmskps | M::Vmovmskps => vector_move::op_movmskps,
        M::Movmskpd | M::Vmovmskpd => vector_move::op_movmskpd,
        M::Pinsrb | M::Vpinsrb => vector_move::op_pinsrb,
        M::Pinsrw | M::Vpinsrw => vector_move::op_pinsrw,
        M::Pinsrd | M::Vpinsrd => vector_move::op_pinsrd,
        M::Pinsrq | M::Vpinsrq => vector_move::op_pinsrq,
        M::Pextrb | M::Vpextrb => vector_move::op_pextrb,
        M::Pextrw | M::Vpextrw => vector_move::op_pextrw,
        M::Pextrd | M::Vpextrd | M::Extractps | M::Vextractps => vector_move::op_pextrd,
        M::Pextrq | M::Vpextrq => vector_move::op_pextrq,
        M::Ptest | M::Vptest => vector_move::op_ptest,
        M::Vextracti128 | M::Vextractf128 => vector_move::op_extract128,
        M::Vinserti128 | M::Vinsertf128 => vector_move::op_insert128,
        M::Vperm2i128 | M::Vperm2f128 => vector_move::op_permute128,
        M::Vpermq | M::Vpermpd => vector_move::op_permute64,
        M::Vpbroadcastb => vector_move::op_broadcast8,
        M::Vpbroadcastw => vector_move::op_broadcast16,
        M::Vpbroadcastd | M::Vbroadcastss => vector_move::op_broadcast32,
        M::Vpbroadcastq | M::Vbroadcastsd => vector_move::op_broadcast64,
        M::Vbroadcasti128 | M::Vbroadcastf128 => vector_move::op_broadcast128,
        M::Vzeroupper => vector_move::op_vzeroupper,
        M::Vzeroall => vector_move::op_vzeroall,
        _ => return None,
    })
}

fn vector_shaping(mnemonic: Mnemonic) -> Option<Plain> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Pshufb | M::Vpshufb => vector_shuffle::op_pshufb,
        M::Packsswb | M::Vpacksswb => vector_shuffle::op_packsswb,
        M::Packuswb | M::Vpackuswb => vector_shuffle::op_packuswb,
        M::Packssdw | M::Vpackssdw => vector_shuffle::op_packssdw,
        M::Packusdw | M::Vpackusdw => vector_shuffle::op_packusdw,
        M::Shufpd | M::Vshufpd => vector_shuffle::op_shufpd,
        M::Blendps | M::Vblendps | M::Vpblendd => vector_shuffle::op_blend32,
        M::Blendpd | M::Vblendpd => vector_shuffle::op_blend64,
        M::Pblendvb | M::Vpblendvb => vector_shuffle::op_blendv8,
        M::Blendvps | M::Vblendvps => vector_shuffle::op_blendv32,
        M::Blendvpd | M::Vblendvpd => vector_shuffle::op_blendv64,
        M::Movddup | M::Vmovddup => vector_shuffle::op_movddup,
        M::Pmovzxbw | M::Vpmovzxbw => vector_shuffle::op_pmovzxbw,
        M::Pmovzxbd | M::Vpmovzxbd => vector_shuffle::op_pmovzxbd,
        M::Pmovzxbq | M::Vpmovzxbq => vector_shuffle::op_pmovzxbq,
        M::Pmovzxwd | M::Vpmovzxwd => vector_shuffle::op_pmovzxwd,
        M::Pmovzxwq | M::Vpmovzxwq => vector_shuffle::op_pmovzxwq,
        M::Pmovzxdq | M::Vpmovzxdq => vector_shuffle::op_pmovzxdq,
        M::Pmovsxbw | M::Vpmovsxbw => vector_shuffle::op_pmovsxbw,
        M::Pmovsxbd | M::Vpmovsxbd => vector_shuffle::op_pmovsxbd,
        M::Pmovsxbq | M::Vpmovsxbq => vector_shuffle::op_pmovsxbq,
        M::Pmovsxwd | M::Vpmovsxwd => vector_shuffle::op_pmovsxwd,
        M::Pmovsxwq | M::Vpmovsxwq => vector_shuffle::op_pmovsxwq,
        M::Pmovsxdq | M::Vpmovsxdq => vector_shuffle::op_pmovsxdq,
        _ => return None,
    })
}

fn vector_converting(mnemonic: Mnemonic) -> Option<Plain> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Cmpps | M::Vcmpps => vector_float::op_cmpps,
        M::Cmppd | M::Vcmppd => vector_float::op_cmppd,
        M::Cmpss | M::Vcmpss => vector_float::op_cmpss,
        M::Cmpsd | M::Vcmpsd => vector_float::op_cmpsd,
        M::Comiss | M::Ucomiss | M::Vcomiss | M::Vucomiss => vector_float::op_comiss,
        M::Comisd | M::Ucomisd | M::Vcomisd | M::Vucomisd => vector_float::op_comisd,
        M::Cvtss2sd | M::Vcvtss2sd => vector_float::op_cvtss2sd,
        M::Cvtsd2ss | M::Vcvtsd2ss => vector_float::op_cvtsd2ss,
        M::Cvtsi2ss | M::Vcvtsi2ss => vector_float::op_cvtsi2ss,
        M::Cvtsi2sd | M::Vcvtsi2sd => vector_float::op_cvtsi2sd,
        M::Cvtss2si | M::Vcvtss2si => vector_float::op_cvtss2si,
        M::Cvttss2si | M::Vcvttss2si => vector_float::op_cvttss2si,
        M::Cvtsd2si | M::Vcvtsd2si => vector_float::op_cvtsd2si,
        M::Cvttsd2si | M::Vcvttsd2si => vector_float::op_cvttsd2si,
        M::Cvtps2pd | M::Vcvtps2pd => vector_float::op_cvtps2pd,
        M::Cvtpd2ps | M::Vcvtpd2ps => vector_float::op_cvtpd2ps,
        M::Cvtdq2pd | M::Vcvtdq2pd => vector_float::op_cvtdq2pd,
        M::Cvtpd2dq | M::Vcvtpd2dq => vector_float::op_cvtpd2dq,
        M::Cvttpd2dq | M::Vcvttpd2dq => vector_float::op_cvttpd2dq,
        M::Roundss | M::Vroundss => vector_float::op_roundss,
        M::Roundsd | M::Vroundsd => vector_float::op_roundsd,
        M::Roundps | M::Vroundps => vector_float::op_roundps,
        M::Roundpd | M::Vroundpd => vector_float::op_roundpd,
        _ => return None,
    })
}
