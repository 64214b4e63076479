//! Which scheduler a task belongs to, by the functions that its `schedule` would call.
//!
//! Source: the `Schedule` implementations of tokio/src/runtime/scheduler/{multi_thread/handle,current_thread/mod}.rs and
//! tokio/src/task/local.rs, 1.28 to 1.54.

use super::{code::Code, heap::Header, policy::Policy, vtables::TaskVtable};
use crate::{
    debuginfo::Module,
    dryrun::{Action, Hooks, Limits, Machine, Transfer},
    model::RuntimeKind,
    target::Memory,
};

/// The scheduler of the task at `header`.
pub(super) fn of(
    code: &Code,
    modules: &[Module],
    memory: &dyn Memory,
    vtable: &TaskVtable,
    header: &Header,
    fs_base: u64,
) -> RuntimeKind {
    let module = modules.iter().find(|module| module.contains(vtable.schedule));
    let by_types = module
        .and_then(|module| module.subprogram_at(vtable.schedule))
        .and_then(|subprogram| by_name(&subprogram.template_types.join(",")));
    if let Some(kind) = by_types {
        return kind;
    }
    let mut machine = Machine::with_code_cache(memory, Limits::default(), &code.cache);
    machine.set_fs_base(fs_base);
    let mut hooks = ScheduleHooks { policy: Policy::new(code), modules, kind: None };
    // How the run ends does not matter: it is stopped as soon as a scheduler's own function is called.
    let _ = machine.call(vtable.schedule, &[header.address], &mut hooks);
    hooks.kind.unwrap_or(RuntimeKind::Tokio)
}

fn by_name(name: &str) -> Option<RuntimeKind> {
    if name.contains("multi_thread") {
        Some(RuntimeKind::TokioMultiThread)
    } else if name.contains("current_thread") {
        Some(RuntimeKind::TokioCurrentThread)
    } else if name.contains("task::local") || name.contains("4task5local") {
        Some(RuntimeKind::TokioLocalSet)
    } else {
        None
    }
}

struct ScheduleHooks<'c> {
    policy: Policy<'c>,
    modules: &'c [Module],
    kind: Option<RuntimeKind>,
}

impl Hooks for ScheduleHooks<'_> {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, _how: Transfer) -> Action {
        let symbol = self.modules.iter().find_map(|module| module.symbol_at(target));
        if let Some(kind) = symbol.and_then(|symbol| by_name(symbol.name)) {
            self.kind = Some(kind);
            return Action::Stop;
        }
        self.policy.on_call(m, target, self.policy.code.role(target))
    }

    fn is_function(&self, address: u64) -> bool {
        self.policy.code.is_function(address)
    }
}
