"""embed as a command: what it says, the file it writes, and bad input in one line."""

from support import run_of


def test_embed_points_out_names_of_the_training(lossbench, trained, tree, tmp_path):
    code, out, _ = lossbench("embed", run_of(trained, "ce"), tree / "train", "--out", tmp_path / "e.npz")
    assert code == 0
    assert "note: 4 names also occur in the training set of ce r0 (p0, p1, p2, ...)" in out


def test_a_quiet_embed_says_no_more_than_its_notes(lossbench, trained, tree, tmp_path):
    code, out, _ = lossbench("embed", run_of(trained, "ce"), tree / "train", "--out", tmp_path / "e.npz", "-q")
    assert code == 0
    assert out.startswith("note: 4 names also occur in the training set of ce r0")
    assert (out.count("\n"), (tmp_path / "e.npz").is_file()) == (1, True)


def test_bad_input_is_one_line(lossbench, trained, tree, tmp_path):
    (tmp_path / "empty").mkdir()
    run = run_of(trained, "ce")
    for words, says in [
        (("embed", run, tmp_path / "empty"), "no image below"),
        (("embed", run, tree, "--backbone", "./my_net.py"), "--backbone ./my_net.py is not used: these runs' backbone"),
        (("embed", run, tree, "--out", tmp_path / "e.csv"), "use a name that ends in .npz"),
        (("embed", trained, tree, "--out", tmp_path / "e.npz"), "3 finished runs"),
        (("embed", run, tree, "--out", run / "run.json" / "e.npz"), "--out: "),
        (("embed", run, tree, "--out", run / "embeddings.npz"), "is a run's own file; choose another place"),
    ]:
        code, _, err = lossbench(*words)
        assert code == 2
        assert says in err
        assert len(err.splitlines()) == 1
