//! What is only counted with may be any count from the lowest on, and the run is the same.

use proptest::prelude::*;

use super::support::{CODE, DATA, Pieces, Watch, program};
use crate::{
    dryrun::{Limits, Machine, Outcome},
    target::Trail,
};

/// `lock inc`, `lock dec`, `lock add -1`, `lock sub 1`, each on the quadword at `rdi`.
const STEPS: [&[u8]; 4] = [
    &[0xf0, 0x48, 0xff, 0x07],
    &[0xf0, 0x48, 0xff, 0x0f],
    &[0xf0, 0x48, 0x83, 0x07, 0xff],
    &[0xf0, 0x48, 0x83, 0x2f, 0x01],
];

/// Code that takes the steps and returns two bits for each: what `setle` and `sets` say after it.
fn code(steps: &[usize]) -> Vec<u8> {
    // xor ebx,ebx
    let mut code = vec![0x31, 0xdb];
    for step in steps {
        code.extend(STEPS[*step]);
        // setle al; sets cl; movzx eax,al; movzx ecx,cl; lea ebx,[rax+rbx*2]; lea ebx,[rcx+rbx*2]
        code.extend([0x0f, 0x9e, 0xc0, 0x0f, 0x98, 0xc1, 0x0f, 0xb6, 0xc0, 0x0f, 0xb6, 0xc9]);
        code.extend([0x8d, 0x1c, 0x58, 0x8d, 0x1c, 0x59]);
    }
    // mov eax,ebx; ret
    code.extend([0x89, 0xd8, 0xc3]);
    code
}

fn with(code: &[u8], count: u64) -> Pieces {
    let mut memory = program(code);
    memory.0[1].1[..8].copy_from_slice(&count.to_le_bytes());
    memory
}

/// What a run returns, and the least that the count may be, where it was nothing but one.
fn run(code: &[u8], count: u64) -> (Outcome, Option<u64>) {
    let memory = with(code, count);
    let trail = Trail::new(&memory);
    let outcome = Machine::new(&trail, Limits::default()).call(CODE, &[DATA], &mut Watch::default());
    let counts = trail.counts();
    (outcome, counts.iter().find(|(address, _)| *address == DATA).map(|(_, lowest)| *lowest))
}

proptest! {
    #[test]
    fn every_count_from_the_lowest_on_gives_the_same_run(
        steps in prop::collection::vec(0_usize..4, 1..7),
        count in 0_u64..9,
        more in 0_u64..1000,
    ) {
        let code = code(&steps);
        let (outcome, lowest) = run(&code, count);
        let returns = matches!(outcome, Outcome::Returned { rax: Some(_) });
        prop_assert!(returns, "{outcome:?}");
        match lowest {
            Some(lowest) => {
                prop_assert!(lowest <= count);
                prop_assert_eq!(&run(&code, lowest).0, &outcome);
                prop_assert_eq!(&run(&code, lowest + more).0, &outcome);
            }
            // So many it has that it does not come to 0.
            None => prop_assert!(count <= steps.len() as u64),
        }
    }
}

#[test]
fn a_count_whose_value_goes_on_is_looked_at() {
    for access in [&[0xf0, 0x48, 0x0f, 0xc1, 0x07][..], &[0x48, 0x8b, 0x07], &[0xf0, 0x48, 0x83, 0x07, 0x02]] {
        // mov eax,1; lock dec qword [rdi]; lock xadd [rdi],rax, or mov rax,[rdi], or lock add qword [rdi],2; ret
        let code = [&[0xb8, 1, 0, 0, 0, 0xf0, 0x48, 0xff, 0x0f], access, &[0xc3]].concat();
        assert_eq!(run(&code, 100).1, None, "{access:x?}");
    }
}
