import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_unet.config import PredictConfig
from napari_unet.large_images.executors import LocalWorkers, workers_at

CONFIG = PredictConfig(device="cpu", precision="float32", tile_px=92, link="z")


@pytest.fixture
def cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def leave(folder, name, fail=False):
    if fail:
        raise ValueError(f"there is no {name}")
    Path(folder, name).touch()


def test_each_piece_is_done_once_here(tmp_path):
    pieces = [(tmp_path, str(n)) for n in range(5)]
    assert list(LocalWorkers().run(leave, pieces)) == [1, 2, 3, 4, 5]
    assert len(list(tmp_path.iterdir())) == 5


def test_nobody_at_the_address_is_told_in_a_sentence(monkeypatch):
    import distributed

    client = distributed.Client
    monkeypatch.setattr(
        distributed, "Client", lambda *a, **k: client(*a, **{**k, "timeout": "0.5s"})
    )
    sentence = r"there is no Dask scheduler at tcp://127\.0\.0\.1:9"
    with pytest.raises(ValueError, match=sentence), workers_at("tcp://127.0.0.1:9"):
        pass


@pytest.mark.slow
def test_a_cluster_does_all_pieces_and_passes_errors_on(cluster, tmp_path):
    with workers_at(cluster.scheduler_address) as workers:
        assert list(workers.run(leave, [(tmp_path, str(n)) for n in range(7)])) == list(range(1, 8))
        assert len(list(tmp_path.iterdir())) == 7
        with pytest.raises(ValueError, match="there is no 1"):
            list(workers.run(leave, [(tmp_path, "1", True)]))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_cluster_gives_the_local_labels_even_if_a_worker_is_killed(
    cluster, service, add_model, blobs, tmp_path
):
    model = add_model("bright")
    image = tmp_path / "image.zarr"
    zarr.save_array(image, np.stack([blobs(seed, (200, 260))[0] for seed in range(2)]))
    local, remote = tmp_path / "local.zarr", tmp_path / "remote.zarr"
    service.segment_volume(image, local, model, CONFIG).wait(120.0)
    job = service.segment_volume(image, remote, model, CONFIG, scheduler=cluster.scheduler_address)
    killed = threading.Event()

    def kill(progress):
        if progress.message.startswith("segmenting") and not killed.is_set():
            killed.set()
            victim = next(iter(cluster.workers.values()))
            os.kill(victim.pid, signal.SIGKILL)

    job.progressed.connect(kill)
    job.wait(200.0)
    assert killed.is_set()
    np.testing.assert_array_equal(zarr.open_array(remote / "0")[:], zarr.open_array(local / "0")[:])
