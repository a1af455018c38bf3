//! Which gradients of weights are made of operands that are kept: those of which every group would write more
//! than the operands are. Each group makes a part of them over the whole batch, in the phase after.

use crate::conv::Conv;
use crate::step::{Phase, Step};

/// Chooses them among the steps of a backward; returns the elements of each of a group's buffers for
/// operands. `group_len` is the most samples of a group.
pub(crate) fn plan<E>(
    phases: &mut [Phase],
    convs: &mut [Conv<E>],
    num_groups: usize,
    group_len: usize,
) -> Vec<usize> {
    let mut lens = Vec::new();
    // A single group has nothing to add up.
    let num_phases = if num_groups > 1 { phases.len() } else { 0 };
    // After the last phase there is none to make a gradient in.
    for i in 0..num_phases.saturating_sub(1) {
        let mut made_next = Vec::new();
        let at_once = phases[i].samples_at_once.min(group_len);
        for step in &mut phases[i].steps {
            let Step::ConvGrad { conv, keep, .. } = step else { continue };
            let of_conv = &mut convs[*conv];
            // Groups have this many samples or one less, which may take more room.
            let of_group = [group_len, group_len - 1].map(|n| of_conv.kept_len(n, at_once));
            let [Some(longer), Some(shorter)] = of_group else { continue };
            let len = longer.max(shorter);
            if len < of_conv.packed_grad_len() {
                of_conv.in_parts = true;
                // What the phase before keeps is read meanwhile.
                let kept = 2 * made_next.len() + i % 2;
                lens.resize(lens.len().max(kept + 1), 0);
                lens[kept] = len.max(lens[kept]);
                *keep = Some(kept);
                made_next.push(Step::WeightGrad { conv: *conv, kept });
            }
        }
        let next = &mut phases[i + 1];
        next.num_once = made_next.len();
        next.steps.splice(0..0, made_next);
    }
    let mut first_step = phases.first().map_or(0, |phase| phase.first_step);
    for phase in phases {
        phase.first_step = first_step;
        first_step += phase.steps.len();
    }
    lens
}
