//! Training that goes on from a model.

use crate::models::SPIRALS;
use crate::program::run;

#[test]
fn a_deepened_network_is_trained_on_beside_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let train = format!("train {SPIRALS} --model dense-resnet --depth 4 --width 8 --steps 20");
    run(path, &format!("{train} --out first")).expect(0);
    run(path, "deepen first --stage 1 --out deeper.safetensors").expect(0);
    assert!(path.join("deeper.state").exists());
    let inspected = run(path, "inspect deeper.safetensors").expect(0).stdout;
    assert!(inspected.contains("put in later   layer1.1"), "{inspected}");

    let from = "train --from deeper.safetensors --steps 10 --out on";
    let ran = run(path, &format!("{from} --json")).expect(0);
    assert!(ran.stderr.contains("with the momentum and the settings"), "{}", ran.stderr);
    let json = ran.json();
    assert_eq!((&json["study"], &json["lr"]), (&"continued".into(), &0.01.into()));
    assert_eq!(json["original"]["architecture"], "dense-resnet4-w8");
    assert_eq!(json["deeper"]["architecture"], "dense-resnet6-w8");
    // Again, nothing is trained; what is kept is a model like any other.
    let again = run(path, from).expect(0);
    assert_eq!(again.stderr.matches("is there already").count(), 2, "{}", again.stderr);
    assert!(again.stdout.contains("Kept is"), "{}", again.stdout);
    run(path, &format!("eval on/kept.safetensors {SPIRALS}")).expect(0);
    run(path, "report on").expect(0);
}

#[test]
fn a_model_alone_goes_on_without_momentum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let train = format!("train {SPIRALS} --model dense-resnet --depth 4 --width 8 --steps 20");
    run(path, &format!("{train} --out first")).expect(0);
    std::fs::rename(path.join("first/model.safetensors"), path.join("alone.safetensors")).unwrap();
    let ran = run(path, &format!("train {SPIRALS} --from alone.safetensors --steps 5 --out on"));
    let ran = ran.expect(0);
    assert!(ran.stderr.contains("goes on without momentum"), "{}", ran.stderr);
    assert!(ran.stderr.contains("lr 0.01,"), "{}", ran.stderr);
    // Such a run can't be repeated without the weights it started from.
    let ran = run(path, "train --config on/config.toml --out again").expect(2);
    assert!(ran.stderr.contains("the weights to start from are not given"), "{}", ran.stderr);
    // Nor does one that diverges end without a word.
    let diverging = "--from alone.safetensors --steps 9 --lr 1e30 --out away";
    let ran = run(path, &format!("train {SPIRALS} {diverging}")).expect(2);
    assert!(ran.stderr.contains("the training diverged at step"), "{}", ran.stderr);
    let ran = run(path, "train --from alone.safetensors --model resnet20").expect(2);
    assert!(ran.stderr.contains("cannot be used with"), "{}", ran.stderr);
}

#[test]
fn the_network_before_is_measured_as_its_training_measured_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let train = "train synthetic:shapes?train=64&dev=40&test=0 --model resnet8-w4 --steps 4";
    let first =
        run(path, &format!("{train} --test-time-flips --out first --json")).expect(0).json();
    run(path, "deepen first --stage 1 --out deeper.safetensors").expect(0);
    let on =
        run(path, "train --from deeper.safetensors --steps 2 --out on --json").expect(0).json();
    assert_eq!(on["before"]["errors"]["dev"], first["dev"]);
}

#[test]
fn a_run_that_diverged_goes_on_from_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let train = format!("train {SPIRALS} --model dense-resnet --depth 4 --width 8 --steps 20");
    let soon = "--checkpoint-every 5 --schedule step --milestones 12 --gamma 1e30 --warmup-steps 0";
    let ran = run(path, &format!("{train} {soon} --lr 0.01 --out first")).expect(2);
    assert!(ran.stderr.contains("step-00000010.ckpt"), "{}", ran.stderr);
    let hint = "`residua train --from first --out OTHER`";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    let from = "train --from first --milestones 12 --gamma 0.1 --out on";
    let ran = run(path, from).expect(0);
    let said = "goes on from its newest checkpoint, of step 10, with its momentum";
    assert!(ran.stderr.contains(said) && ran.stderr.contains("lr 0.001,"), "{}", ran.stderr);
    run(path, &format!("eval on {SPIRALS}")).expect(0);
    // Without a checkpoint there is nothing to go on from.
    std::fs::remove_dir_all(path.join("first/checkpoints")).unwrap();
    let ran = run(path, "train --from first --out again").expect(2);
    assert!(ran.stderr.contains("this run has no model.safetensors"), "{}", ran.stderr);
}
