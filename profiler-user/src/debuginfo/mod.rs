//! ELF and DWARF of the target's modules: symbols, lines, layouts, unwind tables. Knows nothing of any async runtime.
