//! Plans made real: pipelines, bind groups and scratch memory.

use crate::limits::LEAST_BINDING;
use crate::pipelines::Pipeline;
use crate::plan::{Place, Plan, Step};
use crate::shared::Shared;
use anychip_core::Result;
use std::num::NonZeroU64;
use std::sync::Arc;
use wgpu::{BindGroupDescriptor, BindGroupEntry, BindingResource, BufferBinding, ComputePass};

/// A dispatch that only has to be recorded.
pub(crate) struct Prepared {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    params: Vec<u32>,
    groups: [u32; 3],
}

impl Prepared {
    pub(crate) fn record(&self, pass: &mut ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        if !self.params.is_empty() {
            pass.set_immediates(0, bytemuck::cast_slice(&self.params));
        }
        let [x, y, z] = self.groups;
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Makes `scratch` large enough for a plan.
pub(crate) fn grow(shared: &Shared, plan: &Plan, scratch: &mut Vec<wgpu::Buffer>) -> Result<()> {
    for (number, &bytes) in plan.scratch.iter().enumerate() {
        match scratch.get_mut(number) {
            Some(buffer) if buffer.size() >= bytes => {}
            Some(buffer) => *buffer = shared.buffer(bytes)?,
            None => scratch.push(shared.buffer(bytes)?),
        }
    }
    Ok(())
}

/// Everything that a plan's dispatches need.
pub(crate) fn prepare(shared: &Shared, plan: &Plan, scratch: &[wgpu::Buffer]) -> Result<Vec<Prepared>> {
    plan.steps.iter().map(|step| prepare_step(shared, step, scratch)).collect()
}

fn prepare_step(shared: &Shared, step: &Step, scratch: &[wgpu::Buffer]) -> Result<Prepared> {
    let pipeline = shared.pipeline(&step.spec, step.params.len())?;
    let mut entries = Vec::new();
    for (number, binding) in step.spec.bindings().into_iter().enumerate() {
        let place = &step.places[binding.slot];
        let slot = &step.spec.slots[binding.slot];
        let window = step.spec.window.0;
        let (start, skipped) = (window * binding.window as u64, 4 * slot.skipped as u64);
        let last = binding.window + 1 == slot.windows;
        // Buffers have padding, so that a binding of whole words never ends beyond them.
        let rest = skipped + place.bytes() - start;
        let size = if last { rest.next_multiple_of(4).max(LEAST_BINDING) } else { window };
        let (buffer, offset) = match place {
            Place::Given { buffer, offset, .. } => shared.located(buffer, offset - skipped + start, size)?,
            Place::Scratch { number, .. } => {
                (scratch.get(*number).ok_or_else(|| shared.failed("a plan without its memory"))?, start)
            }
            Place::Absent => return Err(shared.failed("a binding of an absent operand")),
        };
        let resource = BindingResource::Buffer(BufferBinding { buffer, offset, size: NonZeroU64::new(size) });
        entries.push(BindGroupEntry { binding: number as u32, resource });
    }
    let descriptor = BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
    let bind_group = shared.guarded(0, || shared.device.create_bind_group(&descriptor))?;
    Ok(Prepared { pipeline, bind_group, params: step.params.clone(), groups: step.groups })
}
