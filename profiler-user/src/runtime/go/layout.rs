//! Where the fields of the Go runtime's structures are: from the program's own DWARF, or else from a table for its version.
//!
//! Every assumption about those structures stands in this file. The tables are made by `cargo xtask go layouts` out of the
//! DWARF of a program that each version of Go builds, and `tests/tests/go_layouts.rs` holds them to it.

use std::path::PathBuf;

use crate::{
    debuginfo::{Bytes, Module},
    target::{Memory, MemoryError},
};

/// The tables, by minor version of Go 1.
const TABLES: &[(u32, &str)] = &[
    (22, include_str!("tables/go1.22.txt")),
    (23, include_str!("tables/go1.23.txt")),
    (24, include_str!("tables/go1.24.txt")),
    (25, include_str!("tables/go1.25.txt")),
    (26, include_str!("tables/go1.26.txt")),
    (27, include_str!("tables/go1.27.txt")),
];

/// Wait reasons that are read at most; there are about forty.
const MOST_REASONS: u64 = 256;
/// Bytes of one wait reason at most.
const LONGEST_REASON: u64 = 64;

/// Declares the fields: each is found under the first of its names that the version has. Names are paths of members from
/// a structure of package runtime, or of another package whose path is given; a bare structure stands for its size.
macro_rules! layout {
    (
        required { $($(#[$doc:meta])* $field:ident: $($name:literal)|+,)* }
        optional { $($(#[$optional_doc:meta])* $optional:ident: $($optional_name:literal)|+,)* }
    ) => {
        /// Offsets and sizes in bytes.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) struct Layout {
            $($(#[$doc])* pub(super) $field: u64,)*
            $($(#[$optional_doc])* pub(super) $optional: Option<u64>,)*
            /// Names of the wait reasons, by number.
            pub(super) reasons: Vec<String>,
        }

        /// Every name that is looked up.
        const NAMES: &[&str] = &[$($($name,)+)* $($($optional_name,)+)*];

        impl Layout {
            /// Looks every field up; the name of the first one that is lacking otherwise.
            fn look_up(get: impl Fn(&str) -> Option<u64>, reasons: Vec<String>) -> Result<Self, &'static str> {
                Ok(Self {
                    $($field: None$(.or_else(|| get($name)))+.ok_or([$($name),+][0])?,)*
                    $($optional: None$(.or_else(|| get($optional_name)))+,)*
                    reasons,
                })
            }
        }
    };
}

layout! {
    required {
        g_size: "g",
        g_panic: "g._panic",
        g_stack_lo: "g.stack.lo",
        g_stack_hi: "g.stack.hi",
        g_defer: "g._defer",
        g_m: "g.m",
        g_sched_sp: "g.sched.sp",
        g_sched_pc: "g.sched.pc",
        g_syscallsp: "g.syscallsp",
        g_syscallpc: "g.syscallpc",
        g_atomicstatus: "g.atomicstatus",
        g_goid: "g.goid",
        g_waitsince: "g.waitsince",
        g_waitreason: "g.waitreason",
        /// Changes with every park: tells one wait from the next.
        g_tracking_seq: "g.trackingSeq",
        g_parent_goid: "g.parentGoid",
        g_gopc: "g.gopc",
        g_startpc: "g.startpc",
        g_waiting: "g.waiting",
        g_sched_ctxt: "g.sched.ctxt",
        g_param: "g.param",
        g_labels: "g.labels",
        g_timer: "g.timer",
        defer_fn: "_defer.fn",
        defer_sp: "_defer.sp",
        defer_link: "_defer.link",
        m_procid: "m.procid",
        sudog_g: "sudog.g",
        sudog_next: "sudog.next",
        /// From 1.26 on a pair of which one half hides the pointer from the collector.
        sudog_elem: "sudog.elem.vu" | "sudog.elem",
        sudog_waitlink: "sudog.waitlink",
        sudog_c: "sudog.c.maybeTraceablePtr.vu" | "sudog.c",
        hchan_qcount: "hchan.qcount",
        hchan_dataqsiz: "hchan.dataqsiz",
        hchan_recvq: "hchan.recvq.first",
        hchan_sendq: "hchan.sendq.first",
        poll_desc_fd: "pollDesc.fd",
        poll_desc_rg: "pollDesc.rg",
        poll_desc_wg: "pollDesc.wg",
        mheap_allspans: "mheap.allspans",
        mspan_size: "mspan",
        mspan_start: "mspan.startAddr",
        mspan_pages: "mspan.npages",
        mspan_elements: "mspan.nelems",
        mspan_element_size: "mspan.elemsize",
        mspan_class: "mspan.spanclass",
        mspan_state: "mspan.state",
        mspan_specials: "mspan.specials",
        mspan_large_type: "mspan.largeType",
        special_size: "special",
        special_next: "special.next",
        special_offset: "special.offset",
        special_kind: "special.kind",
        moduledata_size: "moduledata",
        moduledata_funcnametab: "moduledata.funcnametab",
        moduledata_cutab: "moduledata.cutab",
        moduledata_filetab: "moduledata.filetab",
        moduledata_pctab: "moduledata.pctab",
        moduledata_pclntable: "moduledata.pclntable",
        moduledata_ftab: "moduledata.ftab",
        moduledata_text: "moduledata.text",
        moduledata_etext: "moduledata.etext",
        moduledata_noptrdata: "moduledata.noptrdata",
        moduledata_enoptrdata: "moduledata.enoptrdata",
        moduledata_data: "moduledata.data",
        moduledata_edata: "moduledata.edata",
        moduledata_bss: "moduledata.bss",
        moduledata_ebss: "moduledata.ebss",
        moduledata_noptrbss: "moduledata.noptrbss",
        moduledata_enoptrbss: "moduledata.enoptrbss",
        moduledata_gofunc: "moduledata.gofunc",
        moduledata_gcdatamask: "moduledata.gcdatamask.bytedata",
        moduledata_gcbssmask: "moduledata.gcbssmask.bytedata",
        moduledata_next: "moduledata.next",
    }
    optional {
        /// When a sleeper wakes, nanoseconds of `CLOCK_MONOTONIC`; from 1.23 on.
        g_sleep_when: "g.sleepWhen",
        /// What a coroutine (`iter.Pull`) hands over; from 1.23 on.
        g_coroarg: "g.coroarg",
        /// Mark bits at the end of a span, behind its heap bitmap: with the Green Tea collector.
        span_inline_marks: "spanInlineMarkBits",
        sql_db_free: "database/sql.DB.freeConn",
        sql_db_requests: "database/sql.DB.connRequests",
        sql_db_open: "database/sql.DB.numOpen",
        sql_db_most: "database/sql.DB.maxOpen",
        sql_db_closed: "database/sql.DB.closed",
        sql_db_dep: "database/sql.DB.dep",
        sql_conn_size: "database/sql.driverConn",
        sql_conn_db: "database/sql.driverConn.db",
        sql_conn_created: "database/sql.driverConn.createdAt",
        sql_conn_lock: "database/sql.driverConn.Mutex",
        sql_conn_driver: "database/sql.driverConn.ci",
        sql_conn_closed: "database/sql.driverConn.closed",
        sql_conn_in_use: "database/sql.driverConn.inUse",
        sql_rows_size: "database/sql.Rows",
        sql_rows_conn: "database/sql.Rows.dc",
        sql_rows_ended: "database/sql.Rows.closed",
        sql_tx_size: "database/sql.Tx",
        sql_tx_conn: "database/sql.Tx.dc",
        sql_tx_ended: "database/sql.Tx.done.v",
        sql_single_size: "database/sql.Conn",
        sql_single_conn: "database/sql.Conn.dc",
        sql_single_ended: "database/sql.Conn.done.v",
    }
}

impl Layout {
    /// That of the newest version.
    #[cfg(test)]
    pub(super) fn newest() -> Self {
        parse(TABLES[TABLES.len() - 1].1).expect("the table is whole")
    }

    /// The layout of the Go runtime in `module`, of Go 1.`minor`. An error says in one sentence why there is none.
    pub(super) fn of(module: &Module, memory: &dyn Memory, version: &str) -> Result<Self, String> {
        if let Some(layout) = describe(module, memory).and_then(|text| parse(&text).ok()) {
            return Ok(layout);
        }
        let minor = minor(version).ok_or_else(|| format!("Go {version} is no version that gordian knows"))?;
        if version.contains("X:") {
            return Err(format!(
                "Go {version} was built with experiments, and without debuginfo its layout is not known"
            ));
        }
        let Some((_, table)) = TABLES.iter().find(|(known, _)| *known == minor) else {
            let (oldest, newest) = (TABLES[0].0, TABLES[TABLES.len() - 1].0);
            return Err(format!(
                "Go {version} without debuginfo: gordian knows the layouts of Go 1.{oldest} to 1.{newest}"
            ));
        };
        parse(table).map_err(|lacking| format!("the table for Go 1.{minor} lacks {lacking}"))
    }
}

/// Oldest minor version whose structures have the shape that is read here.
const OLDEST: u32 = 22;

/// The minor version in `1.26.3`, `1.27rc1` or `1.26.0 X:experiment`.
pub(super) fn minor(version: &str) -> Option<u32> {
    let digits = version.strip_prefix("1.")?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok().filter(|minor| *minor >= OLDEST)
}

/// The text of a table: what the DWARF and the symbols of `module` tell. `None` where there are none.
fn describe(module: &Module, memory: &dyn Memory) -> Option<String> {
    use std::fmt::Write;
    let types = module.types()?;
    let mut text = String::new();
    for name in NAMES {
        let (package, name_there) = match name.rsplit_once('/') {
            Some((_, last)) => {
                last.split_once('.').map_or(("", ""), |(_, rest)| (&name[..name.len() - rest.len()], rest))
            }
            None => ("runtime.", *name),
        };
        let mut path = name_there.split('.');
        let Some(ty) = path.next().and_then(|ty| types.find(&format!("{package}{ty}"))) else { continue };
        let path: Vec<&str> = path.collect();
        let found =
            if path.is_empty() { types.size(ty) } else { types.member_path(ty, &path).map(|(_, offset)| offset) };
        if let Some(value) = found {
            let _ = writeln!(text, "{name} {value}");
        }
    }
    for (number, reason) in reasons(module, memory)?.iter().enumerate() {
        let _ = writeln!(text, "reason {number} {reason}");
    }
    Some(text)
}

/// The table for the Go program in a file; `None` where it has no debuginfo. For whoever makes the tables and checks them.
pub fn table(file: Bytes) -> Option<String> {
    let module = Module::parse(file, 0, PathBuf::new()).ok()?;
    describe(&module, &InFile(&module))
}

/// The memory of a program that does not run: what its file has.
struct InFile<'m>(&'m Module);

impl Memory for InFile<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let bytes = self.0.file_bytes(address, buf.len()).ok_or(MemoryError::Unmapped(address))?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// `runtime.waitReasonStrings`: an array of strings (runtime/runtime2.go).
fn reasons(module: &Module, memory: &dyn Memory) -> Option<Vec<String>> {
    let symbol = module.symbols().find(|symbol| symbol.name == "runtime.waitReasonStrings")?;
    let count = (symbol.size / 16).min(MOST_REASONS);
    let mut reasons = Vec::new();
    for index in 0..count {
        let at = symbol.address.checked_add(index * 16)?;
        let (text, length) = (memory.read_u64(at).ok()?, memory.read_u64(at + 8).ok()?);
        let mut bytes = vec![0; length.min(LONGEST_REASON) as usize];
        // The first is empty, and nowhere.
        if length > 0 {
            memory.read(text, &mut bytes).ok()?;
        }
        reasons.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    Some(reasons)
}

fn parse(table: &str) -> Result<Layout, &'static str> {
    let lines = || table.lines().filter(|line| !line.starts_with('#'));
    let mut reasons = Vec::new();
    for reason in lines().filter_map(|line| line.strip_prefix("reason ")) {
        reasons.push(reason.split_once(' ').map_or("", |(_, name)| name).to_owned());
    }
    let get = |name: &str| {
        let mut fields = lines().filter_map(|line| line.split_once(' '));
        fields.find(|(field, _)| *field == name).and_then(|(_, value)| value.parse().ok())
    };
    Layout::look_up(get, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_whole() {
        for (minor, table) in TABLES {
            let layout = parse(table).unwrap_or_else(|lacking| panic!("1.{minor} lacks {lacking}"));
            assert!(layout.reasons.iter().any(|reason| reason == "chan receive"), "1.{minor}");
        }
    }

    #[test]
    fn versions() {
        for (version, expected) in [
            ("1.26.3", Some(26)),
            ("1.27rc1", Some(27)),
            ("1.26.0 X:arenas", Some(26)),
            ("1.21.1", None),
            ("2.0", None),
        ] {
            assert_eq!(minor(version), expected, "{version}");
        }
    }
}
