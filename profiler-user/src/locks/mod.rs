//! std, parking_lot and pthread locks: who waits for them, who holds them.
