//! The update of parameters, in parts.

use residua_engine::{Isa, PlanError, Sgd, ThreadPool, sgd_step};
use residua_testkit::Generator;
use std::panic::catch_unwind;

const SGD: Sgd = Sgd { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 5e-4 };

#[test]
fn the_number_of_threads_changes_no_bit_of_an_update() -> Result<(), PlanError> {
    // Some parts and what is no whole vector.
    for (isa, len) in Isa::supported().flat_map(|isa| [5, 1 << 16, 200_003].map(|len| (isa, len))) {
        let mut generator = Generator::new(len as u64);
        let [params, grads, velocity] = [(); 3].map(|()| generator.signed(len));
        let whole = {
            let (mut params, mut velocity) = (params.clone(), velocity.clone());
            residua_kernels::sgd::step(isa, &SGD, &mut params, &grads, &mut velocity);
            (params, velocity)
        };
        for threads in [1, 2, 3] {
            let (mut params, mut velocity) = (params.clone(), velocity.clone());
            let pool = ThreadPool::new(Some(threads))?;
            pool.install(|| sgd_step(isa, &SGD, &mut params, &grads, &mut velocity));
            assert!((params, velocity) == whole, "{isa}, {len} parameters, {threads} threads");
        }
    }
    Ok(())
}

#[test]
fn an_update_of_other_parameters_is_refused() {
    // Parts that exist of all three would not tell.
    let part = 1 << 16;
    for (num_grads, num_velocity) in [(part, part + 7), (part + 7, part)] {
        let update = || {
            let (mut params, mut velocity) = (vec![0.0; part + 7], vec![0.0; num_velocity]);
            sgd_step(Isa::Portable, &SGD, &mut params, &vec![0.0; num_grads], &mut velocity);
        };
        assert!(catch_unwind(update).is_err(), "{num_grads} gradients, {num_velocity} velocities");
    }
}
