
// The slots of a compressor's state, where windows overlap those of the window before in front of the current one's.

fn slots() -> u32 { return select(p.ratio, 2u * p.ratio, OVERLAP); }
// Where the value of a channel in a slot lies; its score lies scores() behind it.
fn place(s: u32, slot: u32, c: u32) -> u32 { return (s * 2u * slots() + slot) * p.channels + c; }
fn scores() -> u32 { return slots() * p.channels; }
