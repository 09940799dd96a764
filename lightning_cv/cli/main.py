"""The command `lightning-cv`: picks the verb, and turns what a caller can put right into one message and status 2.

Nothing heavy is imported before a verb needs it: `--help`, `--version` and `list` answer at once.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module

from lightning_cv import __version__, interrupts
from lightning_cv.errors import UserError, is_out_of_memory

VERBS = {
    "fit": ("train an experiment", "lightning_cv.cli.fit:fit"),
    "validate": ("evaluate a checkpoint on the validation split", "lightning_cv.cli.fit:validate"),
    "test": ("evaluate a checkpoint on the test split", "lightning_cv.cli.fit:test"),
    "resume": ("go on with a run that was stopped, or extend a finished one", "lightning_cv.cli.resume:main"),
    "predict": ("use a checkpoint on images of your own", "lightning_cv.cli.predict:main"),
    "tune-merge": (
        "thresholds of a panoptic net's merge, tried on validation",
        "lightning_cv.cli.tune_merge:main",
    ),
    "export": ("a checkpoint's net as ONNX or TorchScript", "lightning_cv.cli.export:main"),
    "compress": ("an autoencoder's codes in real bits, against JPEG and others", "lightning_cv.cli.compress:main"),
    "generate": ("what autoencoders make of random codes", "lightning_cv.cli.generate:main"),
    "rcnn": ("R-CNN in all its stages: fine-tuning, SVMs, box regression, mAP", "lightning_cv.cli.rcnn:main"),
    "compare": ("detectors on the same pictures: seconds, disk and mAP", "lightning_cv.cli.compare:main"),
    "sweep": ("run a W&B sweep file here; status, cancel, retry", "lightning_cv.sweeps.main:main"),
    "runs": ("list, filter, sort and remove runs", "lightning_cv.cli.runs:main"),
    "report": ("one page about all runs of a sweep", "lightning_cv.cli.report:main"),
    "evaluate": ("score saved predictions in the official formats", "lightning_cv.tools.evaluate:main"),
    "import": ("weights that others trained, as a checkpoint", "lightning_cv.tools.imports:main"),
    "sync": ("send runs that W&B logged offline", "lightning_cv.cli.sync:main"),
    "dashboard": ("save the W&B workspace that compares betas", "lightning_cv.sweeps.dashboard:main"),
    "list": ("all experiments with task, data and target", "lightning_cv.cli.listing:main"),
    "init": ("copy the experiments into a folder of yours", "lightning_cv.cli.init:main"),
    "data": ("fetch, draw, check, measure and look at data sets", "lightning_cv.tools.data:main"),
    "proposals": ("boxes of likely objects by selective search, and their recall", "lightning_cv.tools.proposals:main"),
    "demo": ("train the small systems on built-in data and write a report", "lightning_cv.cli.demo:main"),
}

USAGE = """usage: lightning-cv VERB [options]

Computer-vision experiments on Lightning: each system one YAML, sweepable, resumable, comparable.

verbs:
{verbs}

  lightning-cv VERB --help     all options of a verb
  lightning-cv --version       the version
  --debug                      with any verb: show the traceback of an error

examples:
  lightning-cv list
  lightning-cv fit --config vae/beta_vae_digits --model.beta 4
  lightning-cv resume runs/vae/beta_vae_digits/20260101-120000-a1b2
  lightning-cv predict --ckpt runs/.../checkpoints/best.ckpt --images photos --out predictions
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status.

    0 done, 1 done with complaints, 2 the caller's slip, 130 ended by Ctrl-C, 75 (`interrupts.STATUS`) a run that was
    asked to stop, has saved, and can go on.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    verb, *rest = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    try:
        if verb in ("-h", "--help", "help"):
            print(
                USAGE.format(verbs="\n".join(f"  {verb:<10} {what}" for verb, (what, _) in VERBS.items())), flush=True
            )
            return 0
        if verb == "--version":
            print(f"lightning-cv {__version__}")
            return 0
        if verb in ("fit", "resume"):
            interrupts.listen()  # before the imports, which take seconds
        return _verb(verb)(rest)
    except interrupts.Interrupted as end:
        if str(end):  # the first process speaks for all
            print(f"lightning-cv {verb}: {end}", file=sys.stderr)
        return end.status
    except KeyboardInterrupt:
        print(f"\nlightning-cv {verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; nothing more to say
        return 0
    except Exception as error:
        if debug or not (isinstance(error, UserError | ValueError | OSError) or _is_a_slip(error)):
            raise
        print(f"lightning-cv {verb}: {message_of(error)}", file=sys.stderr)
        if is_out_of_memory(error) and verb in ("fit", "resume", "validate", "test"):
            print("lower --data.batch_size, and raise --trainer.accumulate_grad_batches as much", file=sys.stderr)
        if not isinstance(error, UserError):
            print("(--debug shows where)", file=sys.stderr)
        return 2


def _is_a_slip(error: BaseException) -> bool:
    """Whether a library says that it was asked for what cannot be; by name, for importing the classes takes seconds."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MisconfigurationException", "ArgumentError"}) or is_out_of_memory(error)


def message_of(error: BaseException, lines: int = 4) -> str:
    """What an error says in at most `lines` lines; of one that a loader worker passed on, its own last words."""
    text = str(error).strip() or type(error).__name__
    if text.startswith("Caught ") and "worker process" in text.splitlines()[0]:
        text = text.splitlines()[-1].partition(": ")[2] or text.splitlines()[-1]
    return "\n".join(text.splitlines()[:lines])


def _verb(verb: str) -> Callable[[list[str]], int]:
    if verb not in VERBS:
        from difflib import get_close_matches  # needed only on the way out

        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(VERBS)}"
        raise UserError(f"no such verb; {hint}")
    module, function = VERBS[verb][1].split(":")
    found: Callable[[list[str]], int] = getattr(import_module(module), function)
    return found
