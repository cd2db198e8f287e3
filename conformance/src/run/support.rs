//! What a device says it runs, and whether it acts on it.

use crate::builder::Built;
use crate::rules::{Broken, Rule};
use anychip_core::{Buffer, Device, Error, Op, Support, Tensor};

/// Whether the device runs `op`: by its own word, which is the same over buffers that hold nothing, and which a stream keeps
/// to. What is unsupported is refused, queued or recorded.
pub(super) fn stated(device: &dyn Device, op: &Op, built: &mut Built) -> Result<Support, Box<Broken>> {
    let said = device.supports(op);
    let over_nothing = op.rebind(&mut |_, _, tensor| {
        let nothing = Buffer::phantom(tensor.offset() + tensor.bytes());
        Ok(Tensor::new(&nothing, tensor.offset(), tensor.dtype(), tensor.sizes())?)
    });
    let of_suite = |error| Broken::plain(Rule::Ran, format!("the operation over nothing: {error}"));
    let again = device.supports(&over_nothing.map_err(of_suite)?);
    if said != again {
        let words = |support: &Support| match support {
            Support::Native => "that it runs it".into(),
            Support::Unsupported(reason) => format!("that {reason}"),
        };
        let (said, again) = (words(&said), words(&again));
        let what = format!("the device says of this operation {said}, and over buffers that hold nothing {again}");
        return Err(Broken::plain(Rule::R0, what));
    }
    if said != Support::Native {
        refused("queued", built.stream.enqueue(op))?;
        let recorded = built.stream.record(vec![op.clone()]);
        refused("recorded", recorded.and_then(|recording| built.stream.replay(&recording, &[])))?;
    }
    Ok(said)
}

fn refused(how: &str, got: Result<(), Error>) -> Result<(), Box<Broken>> {
    let got = match got {
        Err(Error::Unsupported { .. }) => return Ok(()),
        Err(other) => format!("failed: {other}"),
        Ok(()) => "took it".into(),
    };
    let what = format!("the device says that it does not run this, and when it was {how} all the same, it {got}");
    Err(Broken::plain(Rule::R0, what))
}
