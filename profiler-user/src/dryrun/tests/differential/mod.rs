//! Every interpreted instruction against the processor itself.
//!
//! The forms are not listed but found: `forms` enumerates encodings, and each that decodes to an instruction the interpreter
//! has is carried out by both, from random registers, flags and memory. Every register, flag and byte of memory must agree.
//! What the interpreter calls unknown must be what the architecture leaves undefined, and no more.

mod compare;
mod forms;
mod native;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Code, ConditionCode, CpuidFeature, Instruction, Mnemonic};

use super::super::table;
use compare::Verdict;
use forms::Form;
use native::Native;
use state::Random;

/// Forms compared of each encoding, each from so many states.
const FORMS: u32 = 12;
const STATES: u32 = 8;

/// Whether this processor has all that an instruction needs.
fn runs_here(instruction: &Instruction) -> bool {
    instruction.cpuid_features().iter().all(|feature| match feature {
        CpuidFeature::AVX => is_x86_feature_detected!("avx"),
        CpuidFeature::AVX2 => is_x86_feature_detected!("avx2"),
        CpuidFeature::BMI1 => is_x86_feature_detected!("bmi1"),
        CpuidFeature::BMI2 => is_x86_feature_detected!("bmi2"),
        CpuidFeature::LZCNT => is_x86_feature_detected!("lzcnt"),
        CpuidFeature::POPCNT => is_x86_feature_detected!("popcnt"),
        CpuidFeature::MOVBE => is_x86_feature_detected!("movbe"),
        CpuidFeature::ADX => is_x86_feature_detected!("adx"),
        CpuidFeature::SSE3 => is_x86_feature_detected!("sse3"),
        CpuidFeature::SSSE3 => is_x86_feature_detected!("ssse3"),
        CpuidFeature::SSE4_1 => is_x86_feature_detected!("sse4.1"),
        CpuidFeature::SSE4_2 => is_x86_feature_detected!("sse4.2"),
        CpuidFeature::CMPXCHG16B => is_x86_feature_detected!("cmpxchg16b"),
        // In every processor that runs 64-bit code, or a hint that does nothing in one that lacks it.
        _ => true,
    })
}

/// Every mnemonic the interpreter has a function for.
fn implemented() -> BTreeSet<Mnemonic> {
    let conditional = Code::values().filter_map(|code| {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        let name = format!("{:?}", instruction.mnemonic());
        let moves_or_sets = name.starts_with("Cmov") || name.starts_with("Set");
        (instruction.condition_code() != ConditionCode::None && moves_or_sets).then_some(instruction.mnemonic())
    });
    Mnemonic::values().filter(|&mnemonic| table::knows(mnemonic)).chain(conditional).collect()
}

#[test]
fn every_instruction_does_what_the_processor_does() {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let mut native = Native::new().expect("memory for native code");
    let mut seen: BTreeMap<Code, u32> = BTreeMap::new();
    let mut compared = BTreeSet::new();
    let mut lacking = BTreeSet::new();
    let mut failures: BTreeMap<Mnemonic, String> = BTreeMap::new();
    forms::each(&mut random, native.places(), &mut |form: &Form, random: &mut Random| {
        let count = seen.entry(form.instruction.code()).or_default();
        if *count >= FORMS {
            return;
        }
        *count += 1;
        if !runs_here(&form.instruction) {
            lacking.insert(form.instruction.mnemonic());
            return;
        }
        native.place(&form.bytes);
        for _ in 0..STATES {
            let before = state::prepare(random, &form.instruction, &native);
            match compare::compare(form, &before, &mut native) {
                Verdict::Same => {
                    compared.insert(form.instruction.mnemonic());
                }
                Verdict::Traps => {}
                Verdict::Differs(how) => {
                    let text = format!("{:?} {:02x?}: {how}", form.instruction.code(), form.bytes);
                    failures.entry(form.instruction.mnemonic()).or_insert(text);
                }
            }
        }
    });
    let failures: Vec<String> = failures.into_values().collect();
    assert!(failures.is_empty(), "{} instructions differ:\n{}", failures.len(), failures.join("\n"));
    let implemented = implemented();
    let untested: Vec<_> = implemented.difference(&compared).filter(|mnemonic| !lacking.contains(mnemonic)).collect();
    assert!(untested.is_empty(), "interpreted, but never compared: {untested:?}");
    let here_missing: Vec<_> = lacking.difference(&compared).collect();
    if !here_missing.is_empty() {
        let text = format!("this processor lacks {} instructions: {here_missing:?}", here_missing.len());
        assert!(std::env::var_os("GORDIAN_REQUIRE").is_none_or(|value| value != "all"), "{text}");
        println!("SKIPPED every_instruction_does_what_the_processor_does, in part: {text}");
    }
    println!("{} mnemonics in {} encodings compared", compared.len(), seen.len());
}
