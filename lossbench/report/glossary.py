"""The glossary: every figure and every word of a report, with its formula, its source and what it can be.

The page's glossary and ``lossbench explain`` print this text. A row says what a term is called, what it means, and,
where it has them, its formula, its source, its unit and range, the figures of a record that it is about (the part of
their keys before ``@``) and other names that people look it up by. Importing this module is cheap.
"""

from typing import NamedTuple

_SHARE, _COSINE, _DEGREES, _COUNT = "share, 0 to 1", "cosine, -1 to 1", "degrees, 0 to 180", "count"
_ARCFACE = "Deng et al. 2019, arXiv:1801.07698, table 3"
_CHECK = "Musgrave, Belongie & Lim 2020, arXiv:2003.08505, section 3.2"
_WANG = "Wang & Isola 2020, arXiv:2005.10242"
_VINH = "Vinh, Epps & Bailey 2010, JMLR 11:2837"
_CMC = "Phillips, Grother & Micheals 2011, Handbook of Face Recognition"


class Term(NamedTuple):
    """One entry. `topic` is what ``lossbench explain`` takes: lower-case letters, digits and hyphens."""

    topic: str
    title: str
    text: str
    formula: str = ""
    source: str = ""
    unit: str = ""
    figures: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


_SETUP = (
    Term("loss", "loss, entrant", "What is compared: the loss with its hyper-parameters, written as a spec such as "
         "arcface:margin=0.3. All else of a benchmark is the same for every entrant.", also=("entrant", "spec")),
    Term("head", "head", "The loss with its trainable class weights, on top of the backbone. Its parameters are "
         "trained and then dropped: a deployed system keeps the backbone.", unit=_COUNT,
         also=("head parameters", "head_parameters", "parameters")),
    Term("backbone", "backbone", "The network that maps an image to an embedding. Every loss of a repeat starts from "
         "the same weights."),
    Term("embedding", "embedding", "The vector that stands for an image. Two images are compared by the cosine of "
         "their embeddings.", formula="x = f(image), D numbers"),
    Term("cosine", "cosine similarity", "How alike two embeddings are, whatever their lengths.",
         formula="cos(u, v) = u·v / (|u| |v|)", unit=_COSINE,
         also=("similarity", "similarities", "cosines")),
    Term("class-centers", "class centers", "The unit vectors, one per training person, that a head compares "
         "embeddings with.", also=("class weights", "centers", "logits")),
    Term("margin", "margin", "What a loss demands beyond being right: the own class's cosine or angle is made worse "
         "in training, so that classes keep clear of each other. No figure is measured with it.",
         formula="ArcFace: s·cos(θ + m); CosFace: s·(cos θ − m)"),
    Term("scale", "scale", "The factor on cosines before the softmax. A large one makes the softmax sharp; 64 was made "
         "for tens of thousands of people.", formula="softmax(s·cos θ)"),
    Term("hyper-parameters", "hyper-parameters", "The settings of a loss, such as its margin. Each has the paper's "
         "default and can be changed in the spec.", also=("ranges",)),
    Term("repeat", "repeat", "One training of every loss with one seed and, where the data set defines them, one fold. "
         "All losses of a repeat share the initial weights, the split, the number of images and the schedule.",
         also=("repeats", "seed", "fold", "folds")),
    Term("run", "run", "One loss in one repeat: the unit of work, of caching and of failure.", also=("runs", "record")),
    Term("survival", "survival", "The share of a loss's runs that finished. Failed runs are results: every mean is "
         "over the finished ones.", formula="finished runs / runs", unit=_SHARE,
         also=("failed", "failure", "failed runs", "finished")),
    Term("untrained", "untrained", "The same backbone before its first step: what every loss is measured against. It "
         "is shown, and takes no part in verdicts."),
    Term("batches", "batches, sampler", "How the images of a step are drawn: shuffle takes all in random order; P x K "
         "takes K images of each of P people, as losses that mine pairs need.", also=("sampler", "p x k", "shuffle")),
    Term("split", "closed set, open set", "train, val and test hold other images of the same people (closed set); "
         "query and distractors hold people whom nobody trained on (open set).",
         also=("train", "val", "test", "closed set", "open set", "unseen people", "images")),
    Term("query", "query people", "Unseen people with several images each: their pairs are the positives."),
    Term("distractors", "distractors", "Further unseen people. Each of their images makes a negative with every query "
         "image and, in a search, an entry that belongs to no probe."),
    Term("selection", "selection", "Which epoch is reported: the last, or the best on val. Test, query and "
         "distractors are measured once, by that epoch.", also=("select", "checkpoint", "epoch", "best on val")),
    Term("selection-gap", "selection gap", "How much reporting the best test epoch would flatter a loss (--track): an "
         "oracle that no deployed system has.", formula="max over epochs − reported epoch",
         also=("track", "best on test", "last epoch", "test − last", "test − val", "oracle")),
    Term("fingerprint", "fingerprint", "The SHA-256 of what can change a result: the data's files, the split, the "
         "plugin, the settings. Runs are compared only where those of the protocol agree.",
         also=("protocol", "sha", "sha-256", "hash", "split_file")),
    Term("passport", "passport", "What a loss really does, measured by autograd: all other classes stay at 90 degrees "
         "while the own-class angle goes from 0 to 180. The target logit is what a softmax would have needed for that "
         "loss.", formula="target logit = ln(C − 1) − ln(exp(loss) − 1)", also=("target logit", "gradient")),
    Term("training-curve", "training curve", "Training loss relative to its first epoch, and accuracy on val, by "
         "epoch. Losses of different kinds have no common unit, so only the shape is compared.",
         also=("training loss", "history")),
    Term("images-per-second", "images/s", "Training speed after the first epoch, which warms up. It depends on the "
         "machine.", formula="images of epochs 2.. / their seconds", unit="1/s", figures=("images_per_second",),
         also=("speed", "throughput")),
    Term("seconds", "seconds", "The whole run, evaluation included; seconds of training count the epochs alone.",
         unit="seconds", figures=("seconds", "training_seconds"), also=("time", "cost")),
    Term("peak-memory", "peak memory", "The most memory that the process has held so far on a CPU, or the run on a "
         "GPU.", unit="MiB", also=("peak_memory_mib", "memory")),
)  # fmt: skip

_FIGURES = (
    Term("accuracy", "accuracy", "The share of test images, other images of the training people, whose own class "
         "scores highest, without any margin. On val it chooses epochs.",
         formula="(1/N) Σ [argmax_c z_c(x) = y], z the margin-free scores", unit=_SHARE,
         figures=("test_accuracy", "val_accuracy"), also=("accuracy on val", "closed-set accuracy")),
    Term("class-means", "accuracy (class means)", "Accuracy by the nearest mean of the training embeddings instead of "
         "the head's scores. Every loss has it, so all are comparable.",
         formula="argmax_c cos(x, m_c), m_c the mean unit vector of class c", unit=_SHARE,
         figures=("test_accuracy_ncm",), also=("ncm", "accuracy by class means", "nearest class mean")),
    Term("id-rate", "ID rate @ FPR (TAR @ FAR)", "Identification rate: the share of same-person pairs of unseen people "
         "that is accepted at the threshold which at most this share of different-person pairs passes.",
         formula="|{positives above τ}| / |positives|, τ the (⌊FPR·N⌋ + 1)-th largest of N negatives", unit=_SHARE,
         figures=("tpr",),
         also=("tpr", "tar", "identification rate", "identification", "id rate", "tar @ far", "tpr_fpr")),
    Term("fpr", "FPR (false-positive rate, FAR)", "The share of different-person pairs that is accepted. A system "
         "chooses it: 0.001 lets one in a thousand pairs of different people pass. The achieved rate is never above "
         "the one asked for, ties included.", formula="|{negatives above τ}| / |negatives|", unit=_SHARE,
         figures=("achieved_fpr",), also=("far", "false-positive rate", "false-accept rate", "achieved", "achieved fpr",
                                          "fpr asked for")),
    Term("operating-point", "operating point", "A false-positive rate at which something is reported. The data "
         "supports it where at least one negative may lie above the threshold; elsewhere stands a dash.",
         formula="⌊FPR·N⌋ ≥ 1", figures=("lowest_fpr",),
         also=("supported", "lowest supported fpr", "negatives needed", "supported in", "lowest_fpr")),
    Term("thin", "thin (†)", "Fewer than ten negatives lie above the threshold, so a handful of pairs, perhaps of one "
         "look-alike, decides the figure.", formula="⌊FPR·N⌋ < 10", also=("†", "negatives above")),
    Term("threshold", "threshold", "The cosine above which a pair is accepted as one person.", unit=_COSINE,
         figures=("threshold",), also=("τ",)),
    Term("positives", "positives", "All pairs of two query images of one person.", unit=_COUNT, figures=("positives",),
         also=("same-person pairs",)),
    Term("negatives", "negatives", "All pairs of two query images of different people, and of every query image with "
         "every distractor image.", unit=_COUNT, figures=("negatives", "query_negatives"),
         also=("different-person pairs",)),
    Term("threshold-transfer", "threshold transfer", "A deployed system cannot set its threshold on the people it will "
         "see. Here it is set on val images of the training people; the figure is the false-positive rate, or the ID "
         "rate, that results among unseen people. Above the rate asked for, the threshold does not hold.",
         formula="FPR of query and distractors at τ(val)", unit=_SHARE,
         figures=("transfer_fpr", "transfer_tpr", "transfer_threshold", "calibration_negatives"),
         also=("becomes", "transfer", "calibration")),
    Term("gallery", "gallery, probe", "One image of each query person is enrolled, an entry of the gallery; the other "
         "images, the probes, search it.", unit=_COUNT,
         figures=("probes", "entries_without_distractors", "entries_with_distractors", "unenrolled"),
         also=("probe", "probes", "entries", "enrolled")),
    Term("rank-k", "rank k (CMC)", "The share of probes whose person is among the first k entries, without or with "
         "distractors in the gallery. Ties count against the probe.",
         formula="rank = 1 + |{other entries that score at least as high}|", source=_CMC + "; MegaFace: "
         "Kemelmacher-Shlizerman et al. 2016", unit=_SHARE,
         figures=tuple(f"cmc{k}_{how}_distractors" for k in (1, 5, 10) for how in ("without", "with")),
         also=("cmc", "rank 1", "rank 5", "rank 10")),
    Term("dir", "DIR @ FAR", "Detection and identification rate: the share of probes that find their person at rank 1 "
         "and above the threshold that at most this share of images of people who are not enrolled passes.",
         source=_CMC, unit=_SHARE, figures=("dir", "achieved_far", "dir_threshold"), also=("open-set identification",)),
    Term("precision-at-1", "precision@1", "The share of images whose nearest other image shows the same person.",
         formula="P(1)", source=_CHECK, unit=_SHARE, figures=("precision_at_1", "queries", "alone"),
         also=("retrieval", "retrieval queries")),
    Term("r-precision", "R-precision", "Of the R nearest images, R the number of other images of the person, the share "
         "that shows the person.", formula="P(R)", source=_CHECK, unit=_SHARE, figures=("r_precision",)),
    Term("map-at-r", "MAP@R", "R-precision that also rewards a good order of the nearest images.",
         formula="(1/R) Σ_{i ≤ R} P(i)·[i-th nearest shows the person]", source=_CHECK, unit=_SHARE,
         figures=("map_at_r",)),
    Term("silhouette", "silhouette", "How much nearer an image is to its own person than to the nearest other, by "
         "cosine distance; 1 is best.", formula="mean of (b − a) / max(a, b)",
         source="Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7", unit="-1 to 1", figures=("silhouette",),
         also=("clusters",)),
    Term("nmi", "NMI", "Normalised mutual information of k-means clusters and people; it is not corrected for chance.",
         formula="I(U, V) / mean(H(U), H(V))", source=_VINH, unit="0 to 1", figures=("nmi",)),
    Term("ami", "AMI", "Adjusted mutual information of k-means clusters and people: 0 by chance, 1 is best.",
         formula="(I − E[I]) / (mean(H(U), H(V)) − E[I])", source=_VINH, unit="-1 to 1", figures=("ami",)),
    Term("alignment", "alignment", "How close two images of one person lie; 0 is best.",
         formula="mean |u − v|² over pairs of one person", source=_WANG, unit="0 to 4", figures=("alignment",)),
    Term("uniformity", "uniformity", "How evenly all images spread over the sphere; lower is more even, 0 is all in "
         "one point.", formula="ln mean exp(−2 |u − v|²) over all pairs", source=_WANG, unit="-8 to 0",
         figures=("uniformity",)),
    Term("effective-rank", "effective rank", "How many directions the embeddings use: D where they vary alike in all, "
         "near 1 where they have collapsed to a line.", formula="exp(entropy of the covariance's eigenvalues)",
         source="Roy & Vetterli 2007, EUSIPCO, definition 1", unit="1 to D",
         figures=("effective_rank", "train_effective_rank")),
    Term("verification", "verification", "LFW's protocol: are two images of one person? Accuracy on each fold of pairs "
         "at the threshold chosen on all others; the standard error is over the folds of one repeat.",
         source="Huang et al. 2007, Labeled Faces in the Wild", unit=_SHARE,
         figures=("verification_accuracy", "verification_standard_error", "verification_threshold",
                  "verification_same", "verification_different", "verification_folds", "verification_tar"),
         also=("accuracy over folds", "its standard error", "tar @ far 0.001", "pairs")),
    Term("template", "template", "Several images of one person compared as one, as in IJB-B and IJB-C: the images of a "
         "medium, such as the frames of a video, are averaged, and a template is the sum of its media. `evaluate "
         "--templates` measures TAR @ FAR on pairs of templates.",
         formula="t = Σ_media mean of x/|x| over its images; score = cos(t, t')",
         source="Whitelam et al. 2017, IJB-B; InsightFace, eval_ijbc.py", unit=_SHARE,
         also=("templates", "media", "medium", "ijb", "ijb-b", "ijb-c", "tar of templates", "template_tar",
               "template_threshold", "template_achieved_far", "template_positives", "template_negatives")),
    Term("eer", "EER", "Equal error rate of verification pairs: where false accepts are as frequent as false rejects; "
         "0 is best.", formula="FAR(τ) = FRR(τ)", unit=_SHARE, figures=("verification_eer",)),
    Term("auc", "AUC", "The area under verification's ROC curve: 0.5 by chance, 1 is best.", unit="0 to 1",
         figures=("verification_auc",), also=("roc",)),
    Term("w-ec", "W-EC", "Mean angle between a class center and the mean embedding of its class.",
         formula="mean_c ∠(w_c, m_c)", source=_ARCFACE, unit=_DEGREES, figures=("train_w_ec",),
         also=("angles", "geometry")),
    Term("w-inter", "W-Inter", "Mean over class centers of the smallest angle to another one.",
         formula="mean_c min_{k≠c} ∠(w_c, w_k)", source=_ARCFACE, unit=_DEGREES, figures=("train_w_inter",)),
    Term("intra", "Intra", "Mean angle of a sample to the mean of its class, on train or on query people; smaller is "
         "tighter.", formula="mean_i ∠(x_i, m_{y_i})", source=_ARCFACE, unit=_DEGREES,
         figures=("train_intra", "query_intra"), also=("intra train", "intra query")),
    Term("inter", "Inter", "Mean over class means of the smallest angle to another one, on train or on query people; "
         "larger is further apart.", formula="mean_c min_{k≠c} ∠(m_c, m_k)", source=_ARCFACE, unit=_DEGREES,
         figures=("train_inter", "query_inter"), also=("inter train", "inter query")),
    Term("disagreement", "disagreement", "A pair of images that one of two losses accepts and the other rejects, each "
         "at its own threshold of the same false-positive rate. The pairs whose two cosines lie furthest from these "
         "thresholds are listed; --faces shows them where the data set allows it.",
         formula="min(|cos_a − τ_a|, |cos_b − τ_b|), largest first",
         also=("disagreements", "pair of images", "files", "faces")),
    Term("accuracy-id-rate", "accuracy against ID rate", "Every loss as a point: accuracy on people seen in training "
         "upwards, identification rate of unseen people to the right, each with its 95 % interval. Up and to the left "
         "stands a loss that tells its own people apart well, down and to the right one that generalises to others.",
         also=("tradeoff", "trade-off")),
    Term("map", "map of query people", "Query embeddings in two dimensions by t-SNE (cosine), the same people in the "
         "same colours for every loss. Neighbours mean something in it; distances between groups mean little.",
         source="van der Maaten & Hinton 2008, JMLR 9:2579", also=("query map", "query_map", "t-sne", "tsne")),
    Term("sphere", "unit sphere", "Embeddings of three dimensions (--embedding-dim 3) as directions, as they "
         "are: two hemispheres, each in Lambert's equal-area projection.",
         formula="(x, y) / √(1 + |z|)", also=("hemispheres", "hemisphere", "lambert")),
)  # fmt: skip

_STATISTICS = (
    Term("verdict", "verdict", "What the data says of two losses at one figure: one is ahead, both are equivalent, or "
         "they are not separable. It rests on paired differences over the same repeats and people, never on "
         "overlapping intervals.",
         also=("verdicts", "pair", "comparison", "paired difference", "difference", "figure")),
    Term("ahead", "ahead", "The difference is larger than chance explains: its p-value, adjusted for the number of "
         "pairs, is below 0.05.", formula="p (adjusted) < 0.05",
         source="moderated t: Smyth 2004; Holm 1979", also=("behind", "separable", "leads")),
    Term("equivalent", "equivalent", "With 95 % confidence the two differ by less than what matters (0.02 unless "
         "--smallest-difference says otherwise).", formula="two one-sided t-tests at |difference| = 0.02",
         source="Schuirmann 1987", also=("smallest difference", "tost")),
    Term("not-separable", "not separable", "Neither ahead nor equivalent: this data cannot tell the two apart. It does "
         "not say that they are the same.", also=("open", "cannot be told apart", "unsettled", "settled")),
    Term("interval", "95 % interval (±)", "The range that the true mean lies in with 95 % confidence, from the spread "
         "between repeats and a bootstrap over people; cut off where the figure can go no further. A range over "
         "repeats in a drawing is no interval, and says so.",
         formula="mean ± t·√(s²/R + c)", also=("±", "confidence interval", "uncertainty", "error", "confidence")),
    Term("seeds", "seeds (part of the error)", "The standard error that other seeds cause, with its degrees of "
         "freedom; the spread is estimated from all losses together. More repeats make it smaller.",
         formula="√(s²/R)", source="Smyth 2004, limma"),
    Term("people-error", "people (part of the error)", "The standard error that other people cause: a bootstrap over "
         "identities. Only more people make it smaller.", formula="√c, c the covariance of two repeats over resamples",
         source="Bolle, Ratha & Pankanti 2004", also=("people", "bootstrap", "resamples", "more people")),
    Term("p-value", "p (adjusted)", "How often identical losses would differ this much, adjusted for the number of "
         "pairs at this figure.", source="Holm 1979, with its last steps held back", unit="0 to 1",
         also=("p", "adjusted", "significance", "level")),
    Term("detectable", "detectable", "The smallest true difference that this design finds with a power of 80 %, at the "
         "level of one comparison.", unit="as the figure", also=("power",)),
    Term("repeats-to-settle", "repeats to settle", "The number of repeats in all that would settle the pair with a "
         "power of 50 %, if the difference seen were the true one; or that only more people would.", unit=_COUNT,
         also=("more repeats", "settle")),
    Term("rank", "rank", "1 plus the number of losses that are ahead of this one at this figure. Losses that cannot be "
         "told apart share a rank; a dash: not compared yet.", formula="1 + |{losses ahead}|", also=("ranks",)),
    Term("rank-plot", "rank plot", "Every loss at its mean of one figure, with its rank. A bar joins losses of which "
         "no two can be told apart, each marked by a dot. It is drawn from the verdicts of the report, where the "
         "original uses one test over many data sets.", source="after Demšar 2006, JMLR 7:1, section 3.2.2",
         also=("critical difference", "critical-difference diagram", "cd diagram", "rank plots")),
    Term("look", "look", "One view of the verdicts while repeats are added (--until-settled). Each look spends a part "
         "of the level, so that looking often adds no errors.", source="Lan & DeMets 1983, Pocock's kind",
         also=("looks", "until-settled", "newly ahead", "newly equivalent")),
    Term("deconfound", "scale and margin separated", "Every margin loss is also trained with margin 0 and its own "
         "scale, its plain twin (--deconfound). Its gain over ce is then the sum of two effects: that of normalisation "
         "and scale, and that of the margin.", formula="(loss − ce) = (twin − ce) + (loss − twin)",
         also=("plain twin", "twin", "gain over ce", "scale and normalisation", "gain")),
)  # fmt: skip

#: Every entry: what is compared, what is measured, and what may be concluded.
GLOSSARY: dict[str, tuple[Term, ...]] = {
    "What is compared": _SETUP,
    "What is measured": _FIGURES,
    "What may be concluded": _STATISTICS,
}
TERMS: tuple[Term, ...] = tuple(term for terms in GLOSSARY.values() for term in terms)
