"""Clients get the answers to what they asked, whoever dies."""

import memlane
import numpy as np
import pytest
from place import HANG, Peer, Place

OPEN = "client = memlane.Client('service', timeout=20)"


def asking(place: Place) -> Peer:
    peer = place.peer()
    peer.ask(OPEN)
    return peer


def serving(place: Place, source: str = "memlane.Server('service')") -> Peer:
    peer = place.peer()
    peer.ask(f"server = {source}")
    return peer


def ask(value: int) -> str:
    return f"client.ask(np.array([{value}]), 20).array.tolist()"


def test_a_question_is_answered(place: Place) -> None:
    with memlane.Server("service") as server:
        peer = asking(place)
        peer.start(ask(21))
        request = server.recv(HANG)
        assert isinstance(request, memlane.Frame)
        assert request.array.tolist() == [21]
        request.answer(request.array * 2)
        assert peer.result() == [42]
        request.release()


def test_an_answer_is_filled_in_place(place: Place) -> None:
    with memlane.Server("service", max_answer=1 << 20) as server:
        peer = asking(place)
        peer.start("answer = client.ask(np.arange(6, dtype='f4').reshape(2, 3), 20)")
        with server.recv(HANG) as request:
            with request.loan_array((480, 640), "u1") as answer:
                answer[...] = np.arange(640) % 251
            assert request.array.shape == (2, 3)
        peer.result()
        assert peer.ask("file_at(address(answer.array), 480 * 640)") == place.inode("service")
        assert peer.ask("answer.array.shape, answer.array[479, ::100].tolist()") == [
            [480, 640],
            (np.arange(0, 640, 100) % 251).tolist(),
        ]


def test_a_request_is_filled_in_place(place: Place) -> None:
    with memlane.Server("service") as server:
        peer = asking(place)
        peer.ask("""
            loan = client.loan_array((3, 5), "u2")
            loan.array[...] = np.arange(15).reshape(3, 5)
            loan.metadata = b"mine"
            call = client.call(loan)
        """)
        request = server.recv(HANG)
        assert request.array.tolist() == np.arange(15).reshape(3, 5).tolist()
        assert request.metadata == b"mine"
        request.answer(np.array([1]), metadata=b"yours")
        assert peer.ask("client.answer(call, 20).metadata") == b"yours".hex()


def test_answers_come_in_any_order(place: Place) -> None:
    with memlane.Server("service", claims=4) as server:
        peer = asking(place)
        peer.ask("calls = [client.call(np.array([value])) for value in (10, 20, 30)]")
        requests = [server.recv(HANG) for _ in range(3)]
        for request in reversed(requests):
            request.answer(request.array + 1)
        assert peer.ask("[client.answer(call, 20).array.tolist() for call in calls]") == [[11], [21], [31]]


def test_any_answer_says_whose_it_is(place: Place) -> None:
    with memlane.Server("service", claims=4) as server:
        peer = asking(place)
        peer.ask("calls = [client.call(np.array([value])) for value in (10, 20, 30)]")
        requests = [server.recv(HANG) for _ in range(3)]
        for index in (1, 2, 0):
            requests[index].answer(requests[index].array + 1)
        got = peer.ask("[(call, frame.array[0]) for call, frame in (client.any_answer(20) for _ in calls)]")
        assert sorted(got) == [[call, value] for call, value in zip(peer.ask("calls"), (11, 21, 31), strict=True)]


def test_each_client_gets_its_own_answers(place: Place) -> None:
    peer = serving(place)
    peer.start("""
        for request in server:
            request.answer(request.array + 1)
            if request.array[0] == 0:
                break
    """)
    clients = [asking(place) for _ in range(3)]
    for number, client in enumerate(clients):
        client.start(f"""
            for value in range({number * 1000 + 1}, {number * 1000 + 51}):
                assert client.ask(np.array([value]), 20).array.tolist() == [value + 1]
        """)
    for client in clients:
        client.result()
    assert clients[0].ask(ask(0)) == [1]
    peer.result()


def test_bytes_and_records_can_be_asked_and_answered(place: Place) -> None:
    point = np.dtype([("x", "f8"), ("y", "f8")])
    with memlane.Server("service", request="bytes", answer=point) as server, memlane.Client("service") as client:
        call = client.call(b"where?")
        request = server.recv(HANG)
        assert bytes(request) == b"where?"
        with request.loan() as answer:
            answer["x"], answer["y"] = 3, 4
        frame = client.answer(call, HANG)
        assert (frame.array.dtype, frame.array.tolist()) == (point, (3, 4))


def test_try_recv_does_not_wait(place: Place) -> None:
    with memlane.Server("service") as server, memlane.Client("service") as client:
        assert server.try_recv() is None
        client.call(np.array([1]))
        request = server.try_recv()
        assert request is not None and request.array.tolist() == [1]
        with pytest.raises(memlane.TimedOut, match="'service'"):
            server.recv(0.02)


def test_a_timeout_names_the_server(place: Place) -> None:
    peer = serving(place)
    with memlane.Client("service") as client:
        call = client.call(np.array([1]))
        with pytest.raises(memlane.TimedOut, match=f"'service'.*{peer.pid}"):
            client.answer(call, 0.02)
        peer.ask("server.recv(20).answer(np.array([5]))")
        assert client.answer(call, HANG).array.tolist() == [5]


def test_a_killed_server_is_named_and_its_successor_answers(place: Place) -> None:
    first = serving(place)
    with memlane.Client("service") as client:
        calls = [client.call(np.array([value])) for value in (10, 20, 30)]
        first.ask("request = server.recv(20); request.answer(request.array + 1)")
        first.ask("request = server.recv(20)")  # and does not answer it
        first.kill()
        assert client.answer(calls[0], HANG).array.tolist() == [11]
        with pytest.raises(memlane.SenderDied, match=f"{first.pid}.*'service'"):
            client.answer(calls[1], HANG)
        with pytest.raises(memlane.TimedOut):
            client.wait_for_server(0.02)
        successor = serving(place, "memlane.Server.open('service')")
        client.wait_for_server(HANG)
        successor.ask("for _ in range(2): request = server.recv(20); request.answer(request.array + 2)")
        assert [client.answer(call, HANG).array.tolist() for call in calls[1:]] == [[22], [32]]
        assert successor.ask("server.try_recv()") is None


def test_a_client_that_sleeps_is_told_that_its_server_was_killed(place: Place) -> None:
    server, client = serving(place), asking(place)
    client.start("client.ask(np.array([1]))")
    server.ask("request = server.recv(20)")
    server.kill()
    assert "SenderDied" in client.failure().kinds


def test_a_server_that_closes_has_answered_all_it_will(place: Place) -> None:
    with memlane.Server("service") as server, memlane.Client("service") as client:
        call = client.call(np.array([1]))
        server.close()
        with pytest.raises(memlane.Closed, match="'service'"):
            client.answer(call, HANG)


def test_there_is_one_living_server(place: Place) -> None:
    peer = serving(place)
    for second in (memlane.Server, memlane.Server.open):
        with pytest.raises((memlane.AlreadyExists, memlane.NoRoom), match=f"'service'.*{peer.pid}"):
            second("service")


def test_a_killed_client_does_not_hold_up_the_server(place: Place) -> None:
    with memlane.Server("service", clients=1) as server:
        client = asking(place)
        client.ask("call = client.call(np.array([1]))")
        request = server.recv(HANG)
        client.kill()
        # It finds out when it would have to wait, at the latest: there is room for four answers.
        with pytest.raises(memlane.NoReceiver, match="'service'") as gone:
            for _ in range(10):
                request.answer(np.array([2]), timeout=HANG)
        assert isinstance(gone.value, BrokenPipeError)
        request.release()
        successor = asking(place)
        successor.start(ask(5))
        request = server.recv(HANG)
        request.answer(request.array + 1)
        assert successor.result() == [6]


def test_a_request_that_was_dropped_without_an_answer_is_not_asked_again(place: Place) -> None:
    peer = serving(place)
    with memlane.Client("service") as client:
        client.call(np.array([1]))
        call = client.call(np.array([2]))
        peer.ask("server.recv(20).release()")
        peer.kill()
        with memlane.Server.open("service") as server:
            request = server.recv(HANG)
            assert request.array.tolist() == [2]
            request.answer(np.array([3]))
            assert client.answer(call, HANG).array.tolist() == [3]


def test_as_many_clients_as_there_are_places_for(place: Place) -> None:
    with memlane.Server("service", clients=1):
        peer = asking(place)
        with pytest.raises(memlane.NoRoom, match=f"'service'.*{peer.pid}"):
            memlane.Client("service")


def test_what_was_closed_is_not_used_any_more(place: Place) -> None:
    server, client = memlane.Server("service"), memlane.Client("service")
    made = client.call(np.array([1]))
    assert (server.name, client.name, server.closed, client.closed) == ("service", "service", False, False)
    client.close()
    server.close()
    assert server.closed and client.closed
    for call in (
        server.recv,
        server.try_recv,
        lambda: next(server),
        lambda: client.call(np.array([1])),
        lambda: client.ask(np.array([1])),
        lambda: client.answer(made),
        client.any_answer,
        lambda: client.loan_array(3),
        client.wait_for_server,
    ):
        with pytest.raises(memlane.Released) as error:
            call()
        assert isinstance(error.value, ValueError)
    server.close()
    client.close()


def test_who_asks_in_vain_can_ask_again(place: Place) -> None:
    with memlane.Server("sums", request="bytes", answer="tensor") as server, memlane.Client("sums") as client:
        for number in range(10):
            with pytest.raises(TimeoutError):
                client.ask(b"%d" % number, timeout=0)
            server.recv(HANG).answer(np.full(1000, number))
            call = client.call(b"now")
            server.recv(HANG).answer(np.full(1000, -number))
            assert client.answer(call, HANG).array[0] == -number
