//! What is unknown stays unknown through everything computed from it, and nothing else becomes so.

use super::support::{CODE, DATA, Watch, program};
use crate::dryrun::{Limits, Machine, Outcome, Reg, Why};

/// Runs code that leaves its result in `rax`; `rbx` and xmm registers are unknown, `rsi` is 0x1122334455667788.
fn result(code: &[u8]) -> Outcome {
    let mut code = code.to_vec();
    code.push(0xc3);
    let memory = program(&code);
    let mut machine = Machine::new(&memory, Limits::default());
    machine.call(CODE, &[DATA, 0x1122_3344_5566_7788], &mut Watch::default())
}

fn known(code: &[u8]) -> Option<u64> {
    match result(code) {
        Outcome::Returned { rax } => rax,
        other => panic!("{other:?}"),
    }
}

#[test]
fn arithmetic_with_the_unknown_is_unknown() {
    // mov rax,rsi; add rax,rbx
    assert_eq!(known(&[0x48, 0x89, 0xf0, 0x48, 0x01, 0xd8]), None);
    // mov rax,rsi; imul rax,rbx
    assert_eq!(known(&[0x48, 0x89, 0xf0, 0x48, 0x0f, 0xaf, 0xc3]), None);
    // lea rax,[rsi+rbx]
    assert_eq!(known(&[0x48, 0x8d, 0x04, 0x1e]), None);
    // xor rax,rax; setb from unknown flags is of one byte: test ebx,ebx; sete al
    assert_eq!(known(&[0x85, 0xdb, 0x0f, 0x94, 0xc0]), None);
}

#[test]
fn what_does_not_depend_on_the_unknown_is_known() {
    // xor ebx,ebx; mov rax,rbx
    assert_eq!(known(&[0x31, 0xdb, 0x48, 0x89, 0xd8]), Some(0));
    // sub rbx,rbx; mov rax,rbx
    assert_eq!(known(&[0x48, 0x29, 0xdb, 0x48, 0x89, 0xd8]), Some(0));
    // mov eax,ebx; mov al,1; movzx eax,al
    assert_eq!(known(&[0x89, 0xd8, 0xb0, 1, 0x0f, 0xb6, 0xc0]), Some(1));
    // mov rax,rbx; and rax,0
    assert_eq!(known(&[0x48, 0x89, 0xd8, 0x48, 0x83, 0xe0, 0]), Some(0));
    // or bl,1; mov eax,0; setne al: not zero, whatever else it is
    assert_eq!(known(&[0x80, 0xcb, 1, 0xb8, 0, 0, 0, 0, 0x0f, 0x95, 0xc0]), Some(1));
    // mov rax,rsi; mov bl,3; movzx eax,bl
    assert_eq!(known(&[0xb3, 3, 0x0f, 0xb6, 0xc3]), Some(3));
    // pxor xmm0,xmm0; movq rax,xmm0
    assert_eq!(known(&[0x66, 0x0f, 0xef, 0xc0, 0x66, 0x48, 0x0f, 0x7e, 0xc0]), Some(0));
    // pcmpeqd xmm0,xmm0; movd eax,xmm0
    assert_eq!(known(&[0x66, 0x0f, 0x76, 0xc0, 0x66, 0x0f, 0x7e, 0xc0]), Some(0xffff_ffff));
}

#[test]
fn bytes_keep_their_own_knowledge_through_memory_and_vectors() {
    // mov [rdi],rsi; mov [rdi+4],ebx; mov eax,[rdi]
    assert_eq!(known(&[0x48, 0x89, 0x37, 0x89, 0x5f, 4, 0x8b, 7]), Some(0x5566_7788));
    // … mov rax,[rdi]
    assert_eq!(known(&[0x48, 0x89, 0x37, 0x89, 0x5f, 4, 0x48, 0x8b, 7]), None);
    // movq xmm1,rsi; punpcklqdq xmm1,xmm0 (unknown above); movups [rdi],xmm1; mov rax,[rdi]
    let code = [0x66, 0x48, 0x0f, 0x6e, 0xce, 0x66, 0x0f, 0x6c, 0xc8, 0x0f, 0x11, 0x0f, 0x48, 0x8b, 7];
    assert_eq!(known(&code), Some(0x1122_3344_5566_7788));
    // the same with the upper half: mov rax,[rdi+8]
    let code = [0x66, 0x48, 0x0f, 0x6e, 0xce, 0x66, 0x0f, 0x6c, 0xc8, 0x0f, 0x11, 0x0f, 0x48, 0x8b, 0x47, 8];
    assert_eq!(known(&code), None);
    // mov [rdi],rsi; mov [rdi+4],ebx; mov rax,[rdi]; shl rax,32; shr rax,32
    let code = [0x48, 0x89, 0x37, 0x89, 0x5f, 4, 0x48, 0x8b, 7, 0x48, 0xc1, 0xe0, 32, 0x48, 0xc1, 0xe8, 32];
    assert_eq!(known(&code), Some(0x5566_7788));
}

#[test]
fn a_comparison_is_known_when_a_known_byte_decides_it() {
    // mov [rdi],rsi; mov [rdi+7],bl; xor eax,eax; cmp qword [rdi],0; setne al
    let code = [0x48, 0x89, 0x37, 0x88, 0x5f, 7, 0x31, 0xc0, 0x48, 0x83, 0x3f, 0, 0x0f, 0x95, 0xc0];
    assert_eq!(known(&code), Some(1));
    // with setb instead
    let code = [0x48, 0x89, 0x37, 0x88, 0x5f, 7, 0x31, 0xc0, 0x48, 0x83, 0x3f, 0, 0x0f, 0x9c, 0xc0];
    assert_eq!(known(&code), None);
}

#[test]
fn an_unknown_choice_between_equals_is_known() {
    // mov eax,5; mov ecx,5; test ebx,ebx; cmove eax,ecx
    assert_eq!(known(&[0xb8, 5, 0, 0, 0, 0xb9, 5, 0, 0, 0, 0x85, 0xdb, 0x0f, 0x44, 0xc1]), Some(5));
    // mov ecx,6 instead
    assert_eq!(known(&[0xb8, 5, 0, 0, 0, 0xb9, 6, 0, 0, 0, 0x85, 0xdb, 0x0f, 0x44, 0xc1]), None);
}

#[test]
fn what_the_unknown_would_decide_ends_the_run() {
    let why = |code: &[u8]| match result(code) {
        Outcome::Unknown(unknown) => unknown.why,
        other => panic!("{other:?}"),
    };
    // lock cmpxchg [rdi],rsi with rax unknown
    assert_eq!(why(&[0xf0, 0x48, 0x0f, 0xb1, 0x37]), Why::Poison("what a compare-exchange compares"));
    // div rbx
    assert_eq!(why(&[0x48, 0xf7, 0xf3]), Why::Poison("a divisor"));
    // rep stosb with rcx unknown
    assert_eq!(why(&[0xf3, 0xaa]), Why::Poison("a count"));
    // pmovmskb eax,xmm0; test eax,eax; jz +0
    assert_eq!(why(&[0x66, 0x0f, 0xd7, 0xc0, 0x85, 0xc0, 0x74, 0]), Why::Poison("a condition to branch on"));
    // mov rsp,rbx; push rax
    assert_eq!(why(&[0x48, 0x89, 0xdc, 0x50]), Why::Poison("the stack pointer"));
}

#[test]
fn parts_of_a_register_can_be_asked_for() {
    // movzx eax,bl leaves the upper bytes known to be zero, not the low one
    let memory = program(&[0x0f, 0xb6, 0xc3, 0x88, 0xd8, 0xb4, 7, 0xc3]);
    let mut machine = Machine::new(&memory, Limits::default());
    assert_eq!(machine.call(CODE, &[], &mut Watch::default()), Outcome::Returned { rax: None });
    assert_eq!(machine.reg_low(Reg::Rax, 1), None);
    machine.set_reg(Reg::Rax, Some(0x1234));
    assert_eq!(machine.reg_low(Reg::Rax, 1), Some(0x34));
    assert_eq!(machine.reg_low(Reg::Rax, 3), None);
}
