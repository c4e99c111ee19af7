"""How fast a student is distilled: our trainings beside the tools others use, and beside the bare step.

    python -m benchmarks.distill_speed [--data ../shared/data] [--device cuda] [--json FILE]
                                       [--pairs 56:20 32x4:8x4] [--batches 64 512] [--rounds 5] [--no-peers]

    python -m benchmarks.distill_speed --only precision [--device cuda] [--json FILE]

The second form times a step of six kinds of network in every precision of the device and shows what `precision: auto`
takes for each; the rest is about the first.

Knowledge distillation (0.1·CE + 0.9·T²·KL, T=4) as the field's CIFAR tables have it: crops and flips, 100 classes.

    plain          a research loop: torchvision's transforms on PIL images, fp32, the teacher asked in every step
                   (what RepDistiller's helper/loops.py and mdistiller's engine/trainer.py do for a step)
    timm           timm's LogitDistillationTask and loader, with the step of its train.py and its defaults
    timm amp       the same with --amp --amp-dtype bfloat16 --channels-last
    timm compiled  on CUDA: the same with --torchcompile too
    torchdistill   its DistillationBox with criterion and loader as in its CIFAR-100 examples, and their step
    ours online    archsearch.distill.train.train without the view cache, in --precision
    ours cached    the same, every view answered in an earlier training: the cache is warm
    floor          forward, cross-entropy, backward and optimizer of the student on one resident batch, augmented and
                   normalised before, in our precision, memory format and optimizer; on CUDA one graph, compiled

All are in one process and take turns, because a machine that others use is a noisy one. In every round each does a few
steps as a warm-up, then as many as everyone else while time is taken. A step has all that is done for it: loading,
augmentation, teacher, student, optimizer, and what the loop reports. What comes once a training or once an epoch is
left out: building, compiling, starting workers, evaluation, checkpoints. Images/s are medians of the rounds. The ratios
are medians of the rounds' own: `vs plain`, `vs best peer` (the fastest of timm's and torchdistill's in that round) and
`over floor` (the floor's images/s over ours).

In the others' favour: their workers stay alive and their epochs never end, so nobody waits for a first batch. They have
as many workers as their authors recommend (RepDistiller 8, timm 4, torchdistill 16), but not more than there are cores.
Their loaders fill up while others have their turn: the warm-up uses that up where a step waits for loading, and
elsewhere they are as full at the end of a turn as at its start.

torchdistill 1.1 keeps no teacher's answers. Its releases before 1.0 kept one an image, which is right without
augmentation only, so that could not take part. The stem has the first stage's width here: ResNet-32x4 and ResNet-8x4
begin with 64 channels, RepDistiller's with 32; all contestants train the same networks. The teacher is not trained,
which changes no time. Without --data the images are noise.

The CUDA path is written and not yet measured.
"""
