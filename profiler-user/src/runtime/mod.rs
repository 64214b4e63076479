//! Reading async runtimes out of target memory, behind one trait.
