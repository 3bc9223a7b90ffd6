import threading

from napari_unet.plugin.viewer.main_thread import MainThread


def test_in_the_main_thread_it_is_done_at_once(qtbot):
    seen = []
    MainThread().do(seen.append, 1)
    assert seen == [1]


def test_from_many_threads_in_the_order_of_each(qtbot):
    main, seen = MainThread(), []

    def ask(name):
        for number in range(500):
            main.do(lambda *what: seen.append((*what, threading.current_thread())), name, number)

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    qtbot.waitUntil(lambda: len(seen) == 2000, timeout=20_000)
    assert {thread for *_, thread in seen} == {threading.main_thread()}
    for name in range(4):
        assert [number for who, number, _ in seen if who == name] == list(range(500))
