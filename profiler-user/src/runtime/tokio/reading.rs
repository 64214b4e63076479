//! The tasks of one look: who stands as before is taken over, all others are polled and dropped, by two threads where they are
//! many.

use std::{panic, sync::Arc, thread};

use rustc_hash::FxHashSet;

use super::{
    heap::Header,
    imprint,
    kept::{self, Circumstances, Kept},
    reach,
    read::Tokio,
    supposed::Refuted,
    task::ReadTask,
    threads,
};
use crate::runtime::World;

/// Cells that are read at once, shortly before their tasks are looked at: what lies between the scan and that does not matter.
const AT_ONCE: usize = 32;
/// Tasks for which a second thread is worth its while: it decodes all code once more.
const MANY: usize = 4000;

/// Tasks that were read, each with its header.
#[derive(Default)]
pub(super) struct Batch<'h> {
    pub(super) tasks: Vec<ReadTask>,
    pub(super) headers: Vec<&'h Header>,
}

/// Reads that are repeated on a fresh view. What a task's poll meets lies on many pages, read one after the other while the
/// program goes on: a dry run that fails may have met two moments side by side.
#[derive(Default)]
struct Rereads {
    done: usize,
    /// Types of which a second read told no more than the first.
    in_vain: FxHashSet<u64>,
}

impl Rereads {
    /// A fresh view costs the reads of all that was at hand, so there is a limit to them.
    const MOST: usize = 64;

    fn are_worth(&self, vtable: u64) -> bool {
        self.done < Self::MOST && !self.in_vain.contains(&vtable)
    }

    fn told(&mut self, vtable: u64, in_vain: bool) {
        self.done += 1;
        if in_vain {
            self.in_vain.insert(vtable);
        }
    }
}

impl Tokio {
    /// Every live task among those with these headers, each once.
    pub(super) fn read_all<'h>(&mut self, world: &World<'_>, headers: &'h [Header], fs_base: u64) -> Batch<'h> {
        let mut kept = std::mem::take(&mut self.kept);
        let constants = kept::constants(world.memory.mappings());
        kept.begin(&self.circumstances(fs_base, constants), world.memory, headers);
        let live = |header: &&Header| header.owner != 0 && !header.state.is_complete();
        let wanted: Vec<&Header> = headers.iter().filter(live).collect();
        let several = thread::available_parallelism().is_ok_and(|threads| threads.get() > 1);
        let mut batch = if several && wanted.len().saturating_sub(kept.standing()) >= MANY {
            self.read_with_another(world, &wanted, fs_base, &mut kept)
        } else {
            self.read_those(world, &wanted, fs_base, &mut kept)
        };
        kept.end();
        self.kept = kept;
        let mut seen = FxHashSet::default();
        let twice: Vec<bool> = batch.tasks.iter().map(|read| !seen.insert(read.task.party)).collect();
        if seen.len() < twice.len() {
            let (mut of_task, mut of_header) = (twice.iter(), twice.iter());
            batch.tasks.retain(|_| of_task.next() == Some(&false));
            batch.headers.retain(|_| of_header.next() == Some(&false));
        }
        batch
    }

    /// The same for many, half of them on a thread of its own.
    fn read_with_another<'h>(
        &mut self,
        world: &World<'_>,
        wanted: &[&'h Header],
        fs_base: u64,
        kept: &mut Kept,
    ) -> Batch<'h> {
        // What only the code of a type tells is learned first, so that both have it.
        for header in wanted {
            if !self.learned.contains(&header.vtable) {
                let _ = self.read_task(world, header, fs_base);
            }
        }
        let (ours, theirs) = wanted.split_at(wanted.len() / 2);
        let mut other = self.another();
        let mut others = kept.split_off(theirs.first().map_or(u64::MAX, |header| header.address));
        let memory = world.memory.another();
        let World { modules, threads, reads, .. } = *world;
        thread::scope(|scope| {
            let helper = thread::Builder::new().name("gordian-half".into()).spawn_scoped(scope, move || {
                let world = World { memory: &memory, modules, threads, reads };
                (other.read_those(&world, theirs, fs_base, &mut others), other.names, others)
            });
            let mut batch = self.read_those(world, ours, fs_base, kept);
            let more = match helper.map(thread::ScopedJoinHandle::join) {
                Ok(Ok((more, names, others))) => {
                    for (vtable, name) in names {
                        self.names.entry(vtable).or_insert(name);
                    }
                    kept.join(others);
                    more
                }
                Ok(Err(cause)) => panic::resume_unwind(cause),
                // There was no second thread to be had.
                Err(_) => self.read_those(world, theirs, fs_base, kept),
            };
            batch.tasks.extend(more.tasks);
            batch.headers.extend(more.headers);
            batch
        })
    }

    /// The same for another thread, with all that has been learned.
    fn another(&self) -> Self {
        // Both live in the same moment.
        let _now = self.moment.now_ns();
        Self {
            vtables: self.vtables.clone(),
            deallocs: self.deallocs.clone(),
            names: self.names.clone(),
            asked: FxHashSet::default(),
            kinds: self.kinds.clone(),
            version: self.version.clone(),
            code: self.code.another(),
            unwinder: Arc::clone(&self.unwinder),
            contended: Arc::clone(&self.contended),
            learned: self.learned.clone(),
            poll_code: self.poll_code.clone(),
            drop_code: self.drop_code.clone(),
            poll_names: self.poll_names.clone(),
            thread_roles: threads::KnownRoles::default(),
            refuted: Refuted::default(),
            tls_offset: self.tls_offset,
            context: self.context,
            current_task: self.current_task,
            locks: self.locks.clone(),
            joins: self.joins.clone(),
            closing: self.closing.clone(),
            within: self.within.clone(),
            moment: self.moment.clone(),
            workers: imprint::Workers::default(),
            kept: Kept::default(),
        }
    }

    /// Reads the tasks with these headers, one after the other.
    fn read_those<'h>(&mut self, world: &World<'_>, wanted: &[&'h Header], fs_base: u64, kept: &mut Kept) -> Batch<'h> {
        let mut batch = Batch::default();
        let mut rereads = Rereads::default();
        // Of so many nobody looks at one again in this look: their pages are not kept.
        let vast = wanted.len() > reach::MOST;
        // Up to which of them cells have been read.
        let mut renewed = 0;
        for (place, header) in wanted.iter().enumerate() {
            let mut read = kept.take(header.address, world.memory.pid(), &self.moment);
            if read.is_none() {
                if place >= renewed {
                    if vast {
                        for done in &wanted[renewed.saturating_sub(AT_ONCE)..renewed] {
                            world.memory.forget(self.cell(done));
                        }
                    }
                    renewed = wanted.len().min(place + AT_ONCE);
                    world.memory.renew(wanted[place..renewed].iter().map(|header| self.cell(header)));
                }
                read = self.read_anew(world, header, fs_base, &mut rereads, kept);
            }
            if let Some(read) = read {
                batch.tasks.push(read);
                batch.headers.push(header);
            }
        }
        batch
    }

    /// The task with this header, polled and dropped.
    fn read_anew(
        &mut self,
        world: &World<'_>,
        header: &Header,
        fs_base: u64,
        rereads: &mut Rereads,
        kept: &mut Kept,
    ) -> Option<ReadTask> {
        let opaque = |read: &Option<(ReadTask, _)>| read.as_ref().is_some_and(|(read, _)| read.task.is_opaque());
        let mut read = self.read_task(world, header, fs_base);
        if opaque(&read) && rereads.are_worth(header.vtable) {
            world.memory.refresh();
            read = self.read_task(world, header, fs_base);
            rereads.told(header.vtable, opaque(&read));
        }
        let (read, basis) = read?;
        if let Some(basis) = basis {
            let circumstances = self.circumstances(fs_base, kept.constants());
            kept.add(&circumstances, header.vtable, &read, &basis, (world.memory, &self.moment));
        }
        Some(read)
    }

    /// What all tasks are read by, as far as it may change; `constants` is a digest of all that is mapped and cannot be written.
    fn circumstances(&self, fs_base: u64, constants: u64) -> Circumstances {
        Circumstances { fs_base, contended: Arc::clone(&self.contended), wakers: self.code.known_wakers(), constants }
    }
}
