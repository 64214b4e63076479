//! Calls, returns, tail jumps, limits, traps.

use super::support::{CODE, DATA, Pieces, Watch, program};
use crate::dryrun::{
    Action, Atomic, CodeCache, Hooks, Limits, Machine, Outcome, Reg, Special, Transfer, Trap, Unknown, Why,
};

fn run(code: &[u8], args: &[u64], watch: &mut Watch) -> Outcome {
    let memory = program(code);
    Machine::new(&memory, Limits::default()).call(CODE, args, watch)
}

fn why(outcome: Outcome) -> Why {
    match outcome {
        Outcome::Unknown(unknown) => unknown.why,
        other => panic!("not unknown: {other:?}"),
    }
}

#[test]
fn a_loop_is_run_to_its_end() {
    // xor eax,eax; 1: add rax,rdi; dec rdi; jnz 1b; ret
    let code = [0x31, 0xc0, 0x48, 0x01, 0xf8, 0x48, 0xff, 0xcf, 0x75, 0xf8, 0xc3];
    let memory = program(&code);
    let mut machine = Machine::new(&memory, Limits::default());
    assert_eq!(machine.call(CODE, &[100], &mut Watch::default()), Outcome::Returned { rax: Some(5050) });
    assert_eq!(machine.steps(), 302);
    assert_eq!(machine.frames(), []);
}

#[test]
fn loops_count_in_rcx() {
    let run = |code: &[u8], count: u64| {
        let memory = program(code);
        let mut machine = Machine::new(&memory, Limits::default());
        machine.set_reg(Reg::Rcx, Some(count));
        machine.call(CODE, &[], &mut Watch::default())
    };
    // xor eax,eax; 1: inc eax; loop 1b; ret
    assert_eq!(run(&[0x31, 0xc0, 0xff, 0xc0, 0xe2, 0xfc, 0xc3], 5), Outcome::Returned { rax: Some(5) });
    // … cmp eax,3; loopne 1b
    let until = [0x31, 0xc0, 0xff, 0xc0, 0x83, 0xf8, 3, 0xe0, 0xf9, 0xc3];
    assert_eq!(run(&until, 5), Outcome::Returned { rax: Some(3) });
    assert_eq!(run(&until, 2), Outcome::Returned { rax: Some(2) });
    // … cmp eax,3; loope 1b
    let during = [0x31, 0xc0, 0xff, 0xc0, 0x83, 0xf8, 1, 0xe1, 0xf9, 0xc3];
    assert_eq!(run(&during, 5), Outcome::Returned { rax: Some(2) });
    // xor eax,eax; jrcxz +2; inc eax; ret, and jecxz
    assert_eq!(run(&[0x31, 0xc0, 0xe3, 2, 0xff, 0xc0, 0xc3], 0), Outcome::Returned { rax: Some(0) });
    assert_eq!(run(&[0x31, 0xc0, 0xe3, 2, 0xff, 0xc0, 0xc3], 1 << 32), Outcome::Returned { rax: Some(1) });
    assert_eq!(run(&[0x31, 0xc0, 0x67, 0xe3, 2, 0xff, 0xc0, 0xc3], 1 << 32), Outcome::Returned { rax: Some(0) });
}

/// call +1 (to 6); ret; 6: mov eax,7; ret
const CALLS: [u8; 12] = [0xe8, 0x01, 0, 0, 0, 0xc3, 0xb8, 7, 0, 0, 0, 0xc3];

#[test]
fn a_call_has_its_frame_and_its_return() {
    let mut watch = Watch::default();
    assert_eq!(run(&CALLS, &[], &mut watch), Outcome::Returned { rax: Some(7) });
    assert_eq!(watch.calls, [(CODE + 6, Transfer::Call, 1)]);
    let [inner, outer] = &watch.returns[..] else { panic!("{:?}", watch.returns) };
    assert_eq!((inner.call_site, inner.function, inner.return_address), (Some(CODE), CODE + 6, CODE + 5));
    assert_eq!((outer.call_site, outer.function), (None, CODE));
    assert_eq!(inner.sp_at_entry, outer.sp_at_entry - 8);
}

#[test]
fn a_call_that_is_answered_is_not_entered_and_spoils_what_a_callee_may_change() {
    let memory = program(&CALLS);
    let mut machine = Machine::new(&memory, Limits::default());
    machine.set_reg(Reg::Rbx, Some(3));
    let mut watch = Watch { answers: vec![(CODE + 6, Action::Return(Some(9)))], ..Watch::default() };
    assert_eq!(machine.call(CODE, &[1, 2], &mut watch), Outcome::Returned { rax: Some(9) });
    assert_eq!(watch.returns.len(), 1);
    assert_eq!(machine.reg(Reg::Rdi), None);
    assert_eq!(machine.reg(Reg::Rbx), Some(3));
    let mut watch = Watch { answers: vec![(CODE + 6, Action::ReturnPair(None, Some(4)))], ..Watch::default() };
    assert_eq!(machine.call(CODE, &[], &mut watch), Outcome::Returned { rax: None });
    assert_eq!(machine.reg(Reg::Rdx), Some(4));
}

#[test]
fn a_hook_can_stop_and_can_give_up() {
    let memory = program(&CALLS);
    let mut machine = Machine::new(&memory, Limits::default());
    let mut watch = Watch { answers: vec![(CODE + 6, Action::Stop)], ..Watch::default() };
    assert_eq!(machine.call(CODE, &[], &mut watch), Outcome::Stopped);
    assert_eq!(machine.ip(), CODE);
    watch.answers.clear();
    assert_eq!(machine.resume(&mut watch), Outcome::Returned { rax: Some(7) });
    watch.answers = vec![(CODE + 6, Action::Unknown("no".into()))];
    let outcome = machine.call(CODE, &[], &mut watch);
    assert_eq!(outcome, Outcome::Unknown(Unknown { ip: CODE, why: Why::Hook("no".into()) }));
}

#[test]
fn a_jump_to_another_function_replaces_the_frame() {
    // call +1; ret; 6: jmp +1 (to 12 = 0xc)... ; 0xb: nop; 0xc: mov eax,7; ret
    let code = [0xe8, 1, 0, 0, 0, 0xc3, 0xe9, 1, 0, 0, 0, 0x90, 0xb8, 7, 0, 0, 0, 0xc3];
    let mut watch = Watch { functions: vec![CODE + 6, CODE + 12], ..Watch::default() };
    assert_eq!(run(&code, &[], &mut watch), Outcome::Returned { rax: Some(7) });
    assert_eq!(watch.calls, [(CODE + 6, Transfer::Call, 1), (CODE + 12, Transfer::TailJump, 2)]);
    assert_eq!(watch.returns[0].function, CODE + 12);
    assert_eq!(watch.returns[0].call_site, Some(CODE));
    // Where no function starts it is a jump inside one.
    let mut watch = Watch::default();
    assert_eq!(run(&code, &[], &mut watch), Outcome::Returned { rax: Some(7) });
    assert_eq!(watch.calls.len(), 1);
    assert_eq!(watch.returns[0].function, CODE + 6);
    // Answered, it returns to the caller.
    let answers = vec![(CODE + 12, Action::Return(Some(5)))];
    let mut watch = Watch { functions: vec![CODE + 12], answers, ..Watch::default() };
    assert_eq!(run(&code, &[], &mut watch), Outcome::Returned { rax: Some(5) });
    assert_eq!(watch.returns.len(), 2);
}

#[test]
fn a_jump_with_something_left_on_the_stack_is_no_tail_call() {
    // push rbx; jmp +0; pop rbx; mov eax,7; ret
    let code = [0x53, 0xe9, 0, 0, 0, 0, 0x5b, 0xb8, 7, 0, 0, 0, 0xc3];
    let mut watch = Watch { functions: vec![CODE + 6], ..Watch::default() };
    assert_eq!(run(&code, &[], &mut watch), Outcome::Returned { rax: Some(7) });
    assert_eq!(watch.calls, []);
}

#[test]
fn a_jump_through_a_table_stays_and_one_through_a_fixed_slot_leaves() {
    // jmp rdi; 2: mov eax,7; ret
    let code = [0xff, 0xe7, 0xb8, 7, 0, 0, 0, 0xc3];
    let mut watch = Watch::default();
    assert_eq!(run(&code, &[CODE + 2], &mut watch), Outcome::Returned { rax: Some(7) });
    assert_eq!(watch.calls, []);
    // jmp [rip+2]; 6: nop nop; 8: dq CODE+0x10; 0x10: mov eax,7; ret
    let mut code = vec![0xff, 0x25, 2, 0, 0, 0, 0x90, 0x90];
    code.extend((CODE + 0x10).to_le_bytes());
    code.extend([0xb8, 7, 0, 0, 0, 0xc3]);
    let mut watch = Watch::default();
    assert_eq!(run(&code, &[], &mut watch), Outcome::Returned { rax: Some(7) });
    assert_eq!(watch.calls, [(CODE + 0x10, Transfer::TailJump, 1)]);
}

#[test]
fn a_saved_unknown_register_comes_back_and_decides_nothing() {
    // push rbx; mov rbx,rdi; mov rax,rbx; pop rbx; ret
    let code = [0x53, 0x48, 0x89, 0xfb, 0x48, 0x89, 0xd8, 0x5b, 0xc3];
    let memory = program(&code);
    let mut machine = Machine::new(&memory, Limits::default());
    assert_eq!(machine.call(CODE, &[5], &mut Watch::default()), Outcome::Returned { rax: Some(5) });
    assert_eq!(machine.reg(Reg::Rbx), None);
    // test rbx,rbx; jz +0; ret
    assert_eq!(
        why(run(&[0x48, 0x85, 0xdb, 0x74, 0, 0xc3], &[], &mut Watch::default())),
        Why::Poison("a condition to branch on")
    );
    // xor ebx,ebx; jz +2; ud2; ret
    let known = run(&[0x31, 0xdb, 0x74, 2, 0x0f, 0x0b, 0xc3], &[], &mut Watch::default());
    assert_eq!(known, Outcome::Returned { rax: None });
    // mov rax,[rbx]
    assert_eq!(why(run(&[0x48, 0x8b, 0x03], &[], &mut Watch::default())), Why::Poison("an address"));
    // call rbx
    assert_eq!(why(run(&[0xff, 0xd3], &[], &mut Watch::default())), Why::Poison("the target of a call"));
}

#[test]
fn writes_stay_in_the_machine_and_unknown_bytes_are_not_read() {
    // mov [rdi],rsi; lock add dword [rdi],1; mov eax,[rdi]; ret
    let code = [0x48, 0x89, 0x37, 0xf0, 0x83, 0x07, 0x01, 0x8b, 0x07, 0xc3];
    let memory = program(&code);
    let mut machine = Machine::new(&memory, Limits::default());
    let mut watch = Watch::default();
    assert_eq!(machine.call(CODE, &[DATA, 41], &mut watch), Outcome::Returned { rax: Some(42) });
    let seen = Atomic { address: DATA, size: 4, old: Some(41), new: Some(42), ip: CODE + 3 };
    assert_eq!(watch.atomics, [seen]);
    assert_eq!(machine.read_u64(DATA), Ok(42));
    assert_eq!(memory.0[1].1[0], 0);
    machine.poison(DATA + 2, 100);
    assert_eq!(machine.read_u64(DATA).unwrap_err().why, Why::PoisonedMemory(DATA + 2));
    assert_eq!(machine.read_u8(DATA), Ok(42));
    machine.write(DATA, &[1; 200]);
    assert_eq!(machine.read_u32(DATA + 100), Ok(0x0101_0101));
}

#[test]
fn memory_that_is_not_there_and_code_that_is_none_end_the_run() {
    // mov rax,[rdi]
    assert_eq!(why(run(&[0x48, 0x8b, 0x07], &[0x1234_5678], &mut Watch::default())), Why::Memory(0x1234_5678));
    assert_eq!(why(run(&[0x90, 0x90], &[], &mut Watch::default())), Why::Memory(CODE + 2));
    assert_eq!(why(run(&[0x06, 0x90], &[], &mut Watch::default())), Why::Undecodable);
    assert_eq!(why(run(&[0x0f, 0x0b], &[], &mut Watch::default())), Why::Trap(Trap::Ud2));
    assert_eq!(why(run(&[0xcc], &[], &mut Watch::default())), Why::Trap(Trap::Int3));
    assert_eq!(
        why(run(&[0x31, 0xd2, 0x31, 0xc0, 0x48, 0xf7, 0xf2], &[], &mut Watch::default())),
        Why::Trap(Trap::Divide)
    );
    // fld1
    let outcome = run(&[0x90, 0xd9, 0xe8], &[], &mut Watch::default());
    assert_eq!(outcome, Outcome::Unknown(Unknown { ip: CODE + 1, why: Why::Unimplemented("fld1".into()) }));
    assert_eq!(
        Unknown { ip: 0x401, why: Why::Unimplemented("fld1".into()) }.to_string(),
        "at 0x401: the instruction fld1 is not interpreted"
    );
}

#[test]
fn control_stays_within_the_executable() {
    let memory = program(&CALLS);
    let code = CodeCache::within(std::iter::once(CODE..CODE + 6).collect());
    let mut machine = Machine::with_code_cache(&memory, Limits::default(), &code);
    let outcome = machine.call(CODE, &[], &mut Watch::default());
    assert_eq!(outcome, Outcome::Unknown(Unknown { ip: CODE, why: Why::LeftExecutable(CODE + 6) }));
}

#[test]
fn code_that_was_written_to_is_not_run() {
    // mov byte [rdi],0x90; jmp rsi
    let code = [0xc6, 0x07, 0x90, 0xff, 0xe6];
    let memory = Pieces(vec![(CODE, code.to_vec()), (DATA, vec![0xc3; 4096])]);
    let cache = CodeCache::new();
    let mut first = Machine::with_code_cache(&memory, Limits::default(), &cache);
    assert_eq!(why(first.call(CODE, &[DATA, DATA + 8], &mut Watch::default())), Why::CodeWritten(DATA + 8));
    // Also when another machine decoded it before.
    let mut second = Machine::with_code_cache(&memory, Limits::default(), &cache);
    assert_eq!(second.call(DATA + 8, &[], &mut Watch::default()), Outcome::Returned { rax: None });
    assert_eq!(why(second.call(CODE, &[DATA, DATA + 8], &mut Watch::default())), Why::CodeWritten(DATA));
}

#[test]
fn limits_end_the_run() {
    let limits = Limits { steps: 1000, overlay_bytes: 64 << 10, depth: 20 };
    let memory = Pieces(vec![
        // jmp self
        (CODE, vec![0xeb, 0xfe]),
        // call self
        (CODE + 0x1000, vec![0xe8, 0xfb, 0xff, 0xff, 0xff]),
        // 1: mov [rdi],rdi; add rdi,4096; jmp 1b
        (CODE + 0x2000, vec![0x48, 0x89, 0x3f, 0x48, 0x81, 0xc7, 0, 0x10, 0, 0, 0xeb, 0xf4]),
        // rep stosb; jmp back
        (CODE + 0x3000, vec![0xf3, 0xaa, 0xeb, 0xfc]),
    ]);
    let call = |offset: u64, args: &[u64], count: u64| {
        let mut machine = Machine::new(&memory, limits);
        machine.set_reg(Reg::Rcx, Some(count));
        machine.set_reg(Reg::Rax, Some(0));
        let outcome = machine.call(CODE + offset, args, &mut Watch::default());
        (why(outcome), machine.steps())
    };
    assert_eq!(call(0, &[], 0), (Why::StepLimit, 1000));
    assert_eq!(call(0x1000, &[], 0).0, Why::Depth);
    assert_eq!(call(0x2000, &[DATA], 0).0, Why::OverlayLimit);
    assert_eq!(call(0x3000, &[DATA], 30_000).0, Why::StepLimit);
    assert_eq!(call(0x3000, &[DATA], u64::MAX).0, Why::StepLimit);
}

#[test]
fn a_return_to_elsewhere_ends_the_run() {
    // push rdi; ret
    assert_eq!(why(run(&[0x57, 0xc3], &[CODE], &mut Watch::default())), Why::Frames);
    // mov [rsp],rdi; ret
    assert_eq!(why(run(&[0x48, 0x89, 0x3c, 0x24, 0xc3], &[CODE], &mut Watch::default())), Why::Frames);
}

/// Calls back into the target from a hook.
struct Nested;

impl Hooks for Nested {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, _: Transfer) -> Action {
        let sp = m.reg(Reg::Rsp);
        let outcome = m.call(target, &[], &mut Watch::default());
        assert_eq!(m.reg(Reg::Rsp), sp);
        assert_eq!(outcome, Outcome::Returned { rax: Some(7) });
        Action::Return(Some(8))
    }

    fn on_syscall(&mut self, _: &mut Machine<'_>) -> Action {
        Action::Return(Some(1))
    }

    fn on_special(&mut self, m: &mut Machine<'_>, special: Special) -> Action {
        assert_eq!(special, Special::TimeStamp);
        m.set_reg(Reg::Rdx, Some(0));
        Action::Continue
    }
}

#[test]
fn a_hook_can_call_and_answer_system_calls() {
    let memory = program(&CALLS);
    let mut machine = Machine::new(&memory, Limits::default());
    assert_eq!(machine.call(CODE, &[], &mut Nested), Outcome::Returned { rax: Some(8) });
    // syscall; rdtsc; ret
    let memory = program(&[0x0f, 0x05, 0x0f, 0x31, 0xc3]);
    let mut machine = Machine::new(&memory, Limits::default());
    assert_eq!(machine.call(CODE, &[1, 2, 3, 4], &mut Nested), Outcome::Returned { rax: Some(1) });
    assert_eq!(machine.reg(Reg::Rdx), Some(0));
    assert_eq!(machine.reg(Reg::Rcx), None);
    assert_eq!(machine.reg(Reg::Rdi), Some(1));
    assert!(matches!(why(machine.call(CODE, &[], &mut Watch::default())), Why::Hook(_)));
}

#[test]
fn thread_local_storage_is_relative_to_fs() {
    // mov rax,fs:[8]; ret
    let code = [0x64, 0x48, 0x8b, 0x04, 0x25, 8, 0, 0, 0, 0xc3];
    let memory = program(&code);
    let mut machine = Machine::new(&memory, Limits::default());
    assert_eq!(why(machine.call(CODE, &[], &mut Watch::default())), Why::Poison("the base of thread-local storage"));
    machine.set_fs_base(DATA);
    machine.write_u64(DATA + 8, 77);
    assert_eq!(machine.call(CODE, &[], &mut Watch::default()), Outcome::Returned { rax: Some(77) });
}

#[test]
fn a_run_can_start_in_the_middle_of_a_stack() {
    // pop rbx; ret to mov eax,7; ret, on a stack of the target's own
    let code = [0x5b, 0xc3, 0xb8, 7, 0, 0, 0, 0xcc];
    let memory = program(&code);
    let mut machine = Machine::new(&memory, Limits::default());
    machine.set_ip(CODE);
    machine.set_reg(Reg::Rsp, Some(DATA + 64));
    machine.write_u64(DATA + 64, 5);
    machine.write_u64(DATA + 72, CODE + 2);
    assert_eq!(why(machine.resume(&mut Watch::default())), Why::Trap(Trap::Int3));
    assert_eq!((machine.reg(Reg::Rbx), machine.reg(Reg::Rax)), (Some(5), Some(7)));
}

#[test]
fn scratch_memory_is_the_machines_own() {
    let memory = program(&[]);
    let mut machine = Machine::new(&memory, Limits::default());
    let (a, b) = (machine.scratch(20), machine.scratch(8));
    assert_eq!(b, a + 32);
    assert!(matches!(machine.read_u8(a).unwrap_err().why, Why::PoisonedMemory(_)));
    machine.write_u64(a, 5);
    assert_eq!(machine.read_u64(a), Ok(5));
}
