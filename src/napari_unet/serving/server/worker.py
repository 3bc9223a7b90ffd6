"""A worker: a process that does jobs, one after the other, and talks to the server in JSON lines.

The server writes to its standard input: `run`, `give`, `view`, `wish`, `cancel`. It answers on its
standard output: `hello`, `news`, `wants`, `ended`. It ends when its input does.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path

from napari_unet.backends.local import LocalBackend
from napari_unet.config import Device
from napari_unet.core.json_types import JsonObject
from napari_unet.io.atomic import replacing
from napari_unet.jobs import FinishReason, Job, Progress
from napari_unet.learning.live_view import ViewLabels
from napari_unet.serving.arrays import pack_array
from napari_unet.serving.jsons import from_json, parse, to_json
from napari_unet.serving.messages import MESSAGES, SentPreview, SentProgress, SentView, Wishes
from napari_unet.serving.server.inputs import JobInputs, PieceOfPlane

Line = JsonObject


class Worker:
    """Does the jobs that come in lines.

    Parameters
    ----------
    device
        Where networks run if a client leaves the choice.
    largest
        Largest array, in bytes, that is taken.
    """

    def __init__(self, device: Device, largest: int) -> None:
        # What libraries print goes to the log, and not between the lines.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._device, self._largest, self._backend = device, largest, LocalBackend()
        self._lock = threading.Lock()
        self._todo: queue.SimpleQueue[Line] = queue.SimpleQueue()
        self._job: Job[object] | None = None
        self._inputs: JobInputs | None = None

    def run(self) -> None:
        """Do jobs until the input ends."""
        threading.Thread(target=self._read, daemon=True).start()
        self._say({"say": "hello", "gpus": _gpus(self._device)})
        while True:
            line = self._todo.get()
            try:
                self._do(line)
            except Exception as error:
                self._end("failed", f"the job could not be begun ({error})")

    def _read(self) -> None:
        for text in sys.stdin:
            line: Line = json.loads(text)
            job, inputs = self._job, self._inputs
            if line["do"] == "run":
                self._todo.put(line)
            elif job is None or inputs is None:
                continue
            elif line["do"] == "give":
                inputs.give(line["key"], line["sha256"])
            elif line["do"] == "view":
                try:
                    inputs.look_at(from_json(SentView, line["view"]))
                except (OSError, ValueError) as error:
                    print(f"a view could not be used: {error}", file=sys.stderr)
            elif line["do"] == "wish":
                wishes = from_json(Wishes, line["wishes"])
                if wishes.finish:
                    job.finish()
                if wishes.extended_s is not None:
                    job.extend(wishes.extended_s)
            elif line["do"] == "cancel":
                job.cancel()
        # The server has ended; what is done here is begun again when it comes back.
        os._exit(0)

    def _do(self, line: Line) -> None:
        folder = Path(line["folder"])
        content = parse((folder / "request.json").read_bytes())
        kind = content["kind"]
        message = from_json(MESSAGES[kind], content["request"])
        number = 0

        def work(job: Job[object]) -> object:
            from napari_unet.serving.server.tasks import TASKS

            result = TASKS[kind](job, message, inputs)
            with replacing(folder / "result.json") as part:
                part.write_text(json.dumps(to_json(result)), "utf-8")
            return None

        def tell(progress: Progress) -> None:
            nonlocal number
            number += 1
            self._say({"say": "news", "news": to_json(_sent(number, progress))})

        job: Job[object] = Job(kind, work)
        job.progressed.connect(tell)
        inputs = JobInputs(
            job,
            folder,
            Path(line["blobs"]),
            line["given"],
            lambda keys: self._say({"say": "wants", "wants": list(keys)}),
            self._backend,
            self._device,
            self._largest,
        )
        self._job, self._inputs = job, inputs
        self._say({"say": "begun"})
        job.run()
        self._job = self._inputs = None
        reason = job.reason or FinishReason.FAILED
        self._end(reason.value, job.error)

    def _end(self, state: str, error: str) -> None:
        self._say({"say": "ended", "state": state, "error": error})

    def _say(self, line: Line) -> None:
        with self._lock:
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()


def _sent(number: int, progress: Progress) -> SentProgress:
    shown, preview = progress.preview, None
    if isinstance(shown, ViewLabels) and isinstance(shown.view.image, PieceOfPlane):
        labels = base64.b64encode(pack_array(shown.labels)).decode()
        preview = SentPreview(shown.view.image.sha256, shown.view.box, labels)
    return SentProgress(
        number,
        float(progress.fraction),
        progress.message,
        None if progress.loss is None else float(progress.loss),
        None if progress.held_out is None else float(progress.held_out),
        progress.too_short,
        preview,
    )


def _gpus(device: Device) -> int:
    """Return how many GPUs could each have a worker; loads torch, which the first job needs."""
    import torch

    return torch.cuda.device_count() if device in ("auto", "cuda") else 0


def main() -> None:
    """Run as a process of `napari-unet serve`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("device")
    parser.add_argument("largest", type=int)
    options = parser.parse_args()
    # Ctrl-C in a terminal is sent to this process as well, but the server has to end it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Worker(options.device, options.largest).run()


if __name__ == "__main__":
    main()
