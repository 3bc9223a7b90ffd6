"""The protocol of a backend: what each place where jobs run has to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from napari_unet.backends.requests import (
    DiameterRequest,
    FinetuneRequest,
    SegmentRequest,
    TrainRequest,
)
from napari_unet.jobs import Job
from napari_unet.learning.finetune import Improvement
from napari_unet.learning.live_view import View
from napari_unet.models.store import ModelStore
from napari_unet.segmentation.planes import Segmentation


class Backend(Protocol):
    """Does the work of jobs, on this computer or on another one.

    The methods that take a job are called in the job's thread and return when the work is done.

    - Before the call, the request was checked. Nobody changes what it holds any more.
    - During the call, the backend reports progress to the job. It raises `JobCancelled` within one
      tile or one training step after `Job.cancel`. After `Job.finish` it ends early and keeps what
      was learnt.
    - The result does not depend on the backend, on devices of one kind. New models and corrections
      are in the store of the user's computer.
    - If a method raises, the store holds what it held before, and the corrections of the request.
    """

    def segment(self, job: Job[object], request: SegmentRequest) -> Segmentation:
        """Segment an image; only the planes of the request are read.

        Parameters
        ----------
        job
            Follows the work.
        request
            What is to be segmented.

        Raises
        ------
        ValueError
            If the image, the model and the settings do not fit together.
        """

    def guess_diameter(self, job: Job[object], request: DiameterRequest) -> float:
        """Return the typical diameter of the cells of a plane, in pixels.

        Raises
        ------
        ValueError
            If the model recognises no cells at any size.
        """

    def finetune(
        self,
        job: Job[object],
        store: ModelStore,
        request: FinetuneRequest,
        watch: Callable[[], View | None],
    ) -> Improvement:
        """Improve a model; the corrections are stored before anything else is done.

        Parameters
        ----------
        job
            Follows the work.
        store
            Holds the corrections, and gets the new version.
        request
            What is to be learnt.
        watch
            Called now and then, in the job's thread: returns what the user looks at, or None. The
            progress then carries `ViewLabels`.

        Raises
        ------
        ValueError
            If there is nothing to learn, or not enough memory.
        """

    def train(self, job: Job[object], store: ModelStore, request: TrainRequest) -> Improvement:
        """Train a model on labelled images; the new version goes to `store`.

        Raises
        ------
        ValueError
            If there is nothing to learn, or not enough memory.
        """

    def leave(self) -> None:
        """Called before jobs are cancelled because the program ends.

        Work elsewhere may go on, and what a fine-tune here has learnt is kept on disk.
        """

    def close(self) -> None:
        """Close connections; called after all jobs."""
