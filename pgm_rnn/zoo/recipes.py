"""Recipes of the trained zoo's entries: the commands that make each entry, and the model's weaknesses."""

from typing import NamedTuple


class Recipe(NamedTuple):
    """The recipe of an entry.

    Attributes:
        command: arguments of `pgm-rnn`, without --output.
        failure_modes: the model's weaknesses, for its card.
        before: commands that come first, whose --output is the --start of `command`.
    """

    command: str
    failure_modes: str
    before: tuple[str, ...] = ()


RECIPES = {
    "rnn-lru-jsb": Recipe(
        "fit rnn --data jsb --cell lru --hidden-dim 200 --epochs 40 --learning-rate 1e-2 --schedule cosine "
        "--batch-size 8 --weight-decay 3e-1 --patience 40 --seed 0",
        "The keys of a step are independent given the past, so that a choice between two chords becomes a mixture "
        "of their notes. Its memory is linear in itself, and one layer of it is worse on these data than the zoo's "
        "GRU, LSTM and minimal unit; with a sixth of the weight decay it is worse still, 8.88. It is better than "
        "the simple recurrent network of Chung et al. (2014), 9.10, but not than that of Boulanger-Lewandowski et "
        "al. (2012), 8.71. Of 60 draws of 60 steps, 34 % of the steps have three or four keys (4.84 on average, "
        "standard deviation 2.26) and 42 % have two keys a semitone apart. In the test split 100 % of the steps "
        "have three or four keys, and 1 % have two a semitone apart.",
    ),
    "factorial-hmm-jsb-16x16": Recipe(
        "fit factorial-hmm --data jsb --num-chains 2 --num-states 16 --epochs 6 --learning-rate 1e-2 --schedule "
        "cosine --seed 0",
        "Given the two states, the keys of a step are independent: chords that it draws mix notes of several chords, "
        "and voices do not lead. The log odds of a key are sums of two effects, and a second chain gains little on "
        "one: the HMM of 32 states has as many laws of its own, 15 % more parameters and the same score, and the HMM "
        "of 64 states, with three times the parameters, is better by 0.5 nats per step. It was still improving when "
        "the fit ended. Of 60 draws of 60 steps, 63 % of the steps have three or four keys (3.88 on average, "
        "standard deviation 1.18) and 8 % have two keys a semitone apart. In the test split 100 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart.",
    ),
    "hsmm-jsb-16": Recipe(
        "fit hsmm --data jsb --num-states 16 --max-duration 8 --epochs 4 --seed 0",
        "Laws of durations gain nothing on these data: quarter by quarter a state lasts 1.3 to 2.7 steps on "
        "average, and the HMM of 16 states, chosen from more starts, is better by 0.06 nats per step. Given its "
        "state, the keys of a step are independent: chords that it draws mix notes of several chords, and voices do "
        "not lead. Of 60 draws of 60 steps, 54 % of the steps have three or four keys (3.90 on average, standard "
        "deviation 1.39) and 10 % have two keys a semitone apart. In the test split 100 % of the steps have three "
        "or four keys, and 1 % have two a semitone apart.",
    ),
    "recurrent-hmm-jsb-32": Recipe(
        "fit recurrent-hmm --data jsb --num-states 32 --hidden-dim 16 --epochs 6 --learning-rate 1e-2 --schedule "
        "cosine --weight-decay 1e-1 --seed 0",
        "Given its state, the keys of a step are independent, as in the HMM of 32 states from whose EM fit it "
        "starts; the network moves the states alone, and gains 0.08 nats per step. It was still improving when the "
        "fit ended. Of 60 draws of 60 steps, 57 % of the steps have three or four keys (3.99 on average, standard "
        "deviation 1.29) and 10 % have two keys a semitone apart. In the test split 100 % of the steps have three "
        "or four keys, and 1 % have two a semitone apart. An HMM with twice the states and 40 % of the parameters "
        "is better.",
    ),
    "recurrent-hmm-jsb-64": Recipe(
        "fit recurrent-hmm --data jsb --num-states 64 --hidden-dim 16 --epochs 6 --learning-rate 1e-2 --schedule "
        "cosine --weight-decay 1e-1 --seed 0",
        "Given its state, the keys of a step are independent, as in the HMM of 64 states from whose EM fit it starts; "
        "the network moves the states alone, and gains 0.09 nats per step. It has six times as many parameters as the "
        "training data have steps, and is better by half a nat on these than on new pieces. Of 60 draws of 60 steps, "
        "63 % of the steps have three or four keys (3.96 on average, standard deviation 1.16) and 9 % have two keys a "
        "semitone apart. In the test split 100 % of the steps have three or four keys, and 1 % have two a semitone "
        "apart.",
    ),
    "rnn-min-gru-jsb": Recipe(
        "fit rnn --data jsb --cell min-gru --hidden-dim 200 --epochs 40 --learning-rate 1e-2 --schedule cosine "
        "--batch-size 8 --weight-decay 3e-1 --patience 40 --seed 0",
        "The keys of a step are independent given the past, so that a choice between two chords becomes a mixture "
        "of their notes. Its gates read the chord of the step and not the memory, and it has a quarter of the "
        "parameters of the zoo's GRU of the same width, which was trained with the same options and is better by "
        "0.08 nats per step. Its draws go astray sooner: of 60 draws of 60 steps, 33 % of the steps have three or "
        "four keys (5.19 on average, standard deviation 2.71) and 47 % have two keys a semitone apart. In the test "
        "split 100 % of the steps have three or four keys, and 1 % have two a semitone apart.",
    ),
    "stochastic-volatility-pound-dollar": Recipe(
        "fit stochastic-volatility --data pound-dollar --objective elbo --num-particles 4 --epochs 200 "
        "--learning-rate 3e-2 --schedule cosine --seed 0",
        "Given the volatility a return is normal, and its sign says nothing of the volatility that follows: options "
        "for Student errors and leverage are not used, as in the publication. It was trained on the ELBO, which "
        "draws the noise of the log variance to smaller values than the likelihood does. Its log likelihood by a "
        "filter with 1000 particles, -936.3, is above that at the published estimates on these returns, -937.2; the "
        "publication has another source's rates of the same days.",
    ),
    "autoregressive-hmm-japanese-vowels": Recipe(
        "fit autoregressive-hmm --data japanese-vowels --num-states 8 --epochs 30 --seed 0",
        "Each state is a linear regression on the one frame before, with noise that is independent in the "
        "coefficients: a glide has no second difference, and of 300 draws of 16 frames the correlation of a "
        "coefficient with itself one frame later is 0.95, that of the test split 0.97. The first two coefficients "
        "vary by 0.54 and 0.45 in draws, 0.50 and 0.38 in the test split. It has no latent variable for who speaks.",
    ),
    "switching-lgssm-japanese-vowels": Recipe(
        "fit switching-lgssm --data japanese-vowels --num-regimes 3 --latent-dim 12 --epochs 30 --batch-size 32 "
        "--num-particles 4 --valid-particles 8 --learning-rate 1e-2 --schedule cosine --seed 0",
        "Most of what it gains on lgssm-japanese-vowels, -16.485 nats per step on the test split, it owes to its 12 "
        "dimensions: one linear system of 12 dimensions has -20.340 (300 iterations of EM), and three regimes gain "
        "0.6 on that. It is better than autoregressive-hmm-japanese-vowels, -20.441, with 1.6 times its parameters. "
        "Its own figures are bounds; the approximate IMM filter has -20.976 in place of -20.950. It fits its training "
        "data 0.75 nats per step better than the validation split, on which it was still improving when the fit "
        "ended. A regime lasts 5 to 8 frames on average, and the likeliest one has a filtered probability of 0.94. Of "
        "300 draws of 16 frames the correlation of a coefficient with itself one frame later is 0.95, that of the "
        "test split 0.97, and the first two coefficients vary by 0.46 and 0.35, in the test split by 0.50 and 0.38. "
        "It has no latent variable for who speaks.",
    ),
    "switching-mean-ar-gnp": Recipe(
        "fit switching-mean-ar --data gnp --num-regimes 2 --order 4 --first condition --epochs 1500 --learning-rate "
        "3e-2 --schedule cosine --seed 0",
        "It dates the recessions of these 33 years and nothing else: with the quarters after 1984 the variance "
        "falls and the estimates do not hold. A regime is left with the same probability in its first quarter as in "
        "its tenth.",
    ),
    "input-hmm-uk-drivers": Recipe(
        "fit input-hmm --data uk-drivers --input law --input cos_year --input sin_year --input cos_half_year --input "
        "sin_half_year --num-states 2 --drives emission --epochs 300 --learning-rate 3e-3 --schedule cosine --seed 0",
        "Given state and month the figures are independent, and the level has two values only: it jumps where that of "
        "a structural model drifts. The higher state is entered three times in sixteen years, so that the expected "
        "durations, 43 and 21 months, have standard errors of 27 and 15. Only the last four months of the higher state "
        "are under the seat belt law, and its effect there, -0.27, has twice the error of that in the lower one, "
        "-0.22. Two waves are too smooth for March and December: with a third one log p(x) is larger by 12 for 4 "
        "coefficients. Its score is not to be compared with that of structural-uk-drivers, whose diffuse start takes "
        "up the first year.",
    ),
    "structural-uk-drivers": Recipe(
        "fit structural --data uk-drivers --seasonal 12 --seasonal-form trigonometric --epochs 300 --learning-rate "
        "1e-3 --schedule cosine --seed 0",
        "It does not know the seat belt law of February 1983, after which the level falls by a fifth at once: the "
        "level's variance has to explain that jump, and is too large elsewhere. The season's variance is small, and "
        "the likelihood so flat in it that programs differ in its third digit.",
    ),
    "bidirectional-rnn-pen-digits": Recipe(
        "fit bidirectional-rnn --data pen-digits --hidden-dim 32 --seed 0",
        "It is overconfident: for nearly half of the test digits that it reads wrongly, the wrong label has a "
        "probability above 0.9, and this one digit in fifty accounts for nine tenths of the nats. For writers that "
        "it has not seen it needs five times the nats per label of the validation split, whose writers it knows. It "
        "needs all eight points, in the order of writing and at full size: it finds 79 % of the test digits by "
        "their first seven points, 75 % at half the size, and 11 %, as many as by guessing, in the reverse order. "
        "It takes noise for a digit, with a probability of 0.85 on average.",
    ),
    "bidirectional-rnn-synthetic-hmm": Recipe(
        "fit bidirectional-rnn --data synthetic-hmm --hidden-dim 16 --batch-size 256 --seed 0",
        "It was trained on sequences of 8 steps alone. There it is 0.0004 nats per label from the exact smoother, "
        "on average over sequences of the same law; at 400 steps it is 0.003 nats from it, and single probabilities "
        "are off by up to 0.1. Where the symbols leave the state open the smoother errs as well, and about as "
        "often.",
    ),
    "hmm-jsb-16": Recipe(
        "fit hmm --data jsb --num-states 16 --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Of 60 draws of 60 steps, 52 % of the steps have three or four keys (3.93 on average, "
        "standard deviation 1.40) and 8 % have two keys a semitone apart. In the test split 100 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart. Sixteen states are few: with more of them the nats "
        "per step keep falling.",
    ),
    "hmm-jsb-32": Recipe(
        "fit hmm --data jsb --num-states 32 --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Of 60 draws of 60 steps, 58 % of the steps have three or four keys (3.93 on average, "
        "standard deviation 1.29) and 8 % have two keys a semitone apart. In the test split 100 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart.",
    ),
    "hmm-jsb-64": Recipe(
        "fit hmm --data jsb --num-states 64 --restarts 4 --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Of 60 draws of 60 steps, 65 % of the steps have three or four keys (3.94 on average, "
        "standard deviation 1.14) and 8 % have two keys a semitone apart. In the test split 100 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart.",
    ),
    "hmm-jsb-128": Recipe(
        "fit hmm --data jsb --num-states 128 --restarts 2 --pseudo-count 0.05 --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Of 60 draws of 60 steps, 68 % of the steps have three or four keys (3.95 on average, "
        "standard deviation 1.04) and 7 % have two keys a semitone apart. In the test split 100 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart. It fits its training data 0.8 nats per step better "
        "than new pieces.",
    ),
    "hmm-jsb-256": Recipe(
        "fit hmm --data jsb --num-states 256 --restarts 1 --pseudo-count 0.03 --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Of 60 draws of 60 steps, 70 % of the steps have three or four keys (3.97 on average, "
        "standard deviation 1.00) and 7 % have two keys a semitone apart. In the test split 100 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart. It fits its training data 1.2 nats per step better "
        "than new pieces.",
    ),
    "hmm-jsb-512": Recipe(
        "fit hmm --data jsb --num-states 512 --restarts 1 --pseudo-count 0.02 --half --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Of 60 draws of 60 steps, 69 % of the steps have three or four keys (3.98 on average, "
        "standard deviation 1.05) and 8 % have two keys a semitone apart. In the test split 100 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart. Most states are one chord of the training data: it "
        "fits them 1.6 nats per step better than new pieces. Its numbers are stored in half precision; the scores "
        "are those of the rounded numbers.",
    ),
    "markov-chain-jsb": Recipe(
        "fit markov-chain --data jsb",
        "Each key is a chain of its own and knows nothing of the others, so there is no harmony at all. Of 60 draws "
        "of 60 steps, 42 % of the steps have three or four keys (3.94 on average, standard deviation 1.77) and 24 % "
        "have two keys a semitone apart. In the test split 100 % of the steps have three or four keys, and 1 % have "
        "two a semitone apart.",
    ),
    "rnn-elman-jsb": Recipe(
        "fit rnn --data jsb --cell elman --hidden-dim 128 --learning-rate 3e-3 --seed 0",
        "The keys of a step are independent given the past, so that a choice between two chords becomes a mixture "
        "of their notes; it does not remember far. Of 60 draws of 60 steps, 47 % of the steps have three or four "
        "keys (3.61 on average, standard deviation 1.62) and 22 % have two keys a semitone apart. In the test split "
        "100 % of the steps have three or four keys, and 1 % have two a semitone apart.",
    ),
    "rnn-gru-jsb": Recipe(
        "fit rnn --data jsb --cell gru --hidden-dim 200 --epochs 40 --learning-rate 1e-2 --schedule cosine "
        "--batch-size 8 --weight-decay 3e-1 --patience 40 --seed 0",
        "The keys of a step are independent given the past, so that a choice between two chords becomes a mixture "
        "of their notes. It is better than the zoo's LSTM on new pieces, and more so on those that it was trained "
        "on. Of 60 draws of 60 steps, 47 % of the steps have three or four keys (3.68 on average, standard deviation "
        "1.59) and 24 % have two keys a semitone apart. In the test split 100 % of the steps have three or four "
        "keys, and 1 % have two a semitone apart.",
    ),
    "rnn-lstm-jsb": Recipe(
        "fit rnn --data jsb --cell lstm --hidden-dim 64 --seed 0",
        "The keys of a step are independent given the past, so that a choice between two chords becomes a mixture "
        "of their notes. Of 60 draws of 60 steps, 45 % of the steps have three or four keys (3.86 on average, "
        "standard deviation 1.66) and 25 % have two keys a semitone apart. In the test split 100 % of the steps "
        "have three or four keys, and 1 % have two a semitone apart.",
    ),
    "rnn-stacked-lstm-jsb": Recipe(
        "fit rnn --data jsb --cell lstm --num-layers 2 --hidden-dim 64 --learning-rate 5e-3 --seed 0",
        "The keys of a step are independent given the past, so that a choice between two chords becomes a mixture "
        "of their notes; the second layer gains nothing on one. Of 60 draws of 60 steps, 47 % of the steps have "
        "three or four keys (3.80 on average, standard deviation 1.59) and 19 % have two keys a semitone apart. In "
        "the test split 100 % of the steps have three or four keys, and 1 % have two a semitone apart.",
    ),
    "rnn-deep-transition-jsb": Recipe(
        "fit rnn --data jsb --cell deep-transition --num-layers 2 --hidden-dim 96 --learning-rate 3e-3 --seed 0",
        "The keys of a step are independent given the past, so that a choice between two chords becomes a mixture "
        "of their notes. The deeper transition gains nothing on the Elman network of the zoo.",
    ),
    "multi-particle-rnn-jsb": Recipe(
        "fit multi-particle-rnn --data jsb --num-particles 4 --cell lstm --hidden-dim 64 --seed 0",
        "The keys of a step are independent given the past, so that a choice between two chords becomes a mixture "
        "of their notes. Its four starts are a mixture of whole pieces, whose weights settle in the first steps; it "
        "gains nothing on one LSTM of the same width.",
    ),
    "rnn-lstm-nade-jsb": Recipe(
        "fit rnn --data jsb --cell lstm --hidden-dim 160 --nade-dim 64 --transpose 5 --epochs 40 --learning-rate "
        "5e-3 --schedule cosine --weight-decay 3e-3 --patience 20 --seed 0",
        "Its chords are chords: of 60 draws of 60 steps, 99 % of the steps have three or four keys (3.86 on "
        "average, standard deviation 0.38), as in the data, and 2 % have two keys a semitone apart (data: 1 %). "
        "What is missing is a plan: draws wander between keys, cadences come anywhere, and no draw ends. It was "
        "trained on copies of the chorales in other keys, so it knows less about each key than the data say.",
    ),
    "vrnn-jsb": Recipe(
        "fit vrnn --data jsb --latent-dim 32 --hidden-dim 64 --cell lstm --start vrnn-jsb-elbo --objective fivo "
        "--num-particles 4 --epochs 20 --learning-rate 1e-3 --schedule cosine --batch-size 8 --weight-decay 1e-2 "
        "--patience 60 --seed 0",
        "The keys of a step are independent given the latent state, which picks a chord, but not sharply. Of 60 "
        "draws of 60 steps, 58 % of the steps have three or four keys (3.76 on average, standard deviation 1.31) "
        "and 13 % have two keys a semitone apart. In the test split 100 % of the steps have three or four keys, and "
        "1 % have two a semitone apart. The bound is that of a filter with 128 particles; the guide alone gives a "
        "looser one, see the leaderboard.",
        before=(
            "fit vrnn --data jsb --latent-dim 32 --hidden-dim 64 --cell lstm --epochs 120 --learning-rate 3e-3 "
            "--schedule cosine --batch-size 8 --kl-warmup 15 --valid-particles 4 --weight-decay 1e-2 --patience 60 "
            "--seed 0 --output vrnn-jsb-elbo",
        ),
    ),
    "rnn-gru-synthetic-hmm-8": Recipe(
        "fit rnn --data synthetic-hmm --cell gru --hidden-dim 8 --seed 0",
        "It was trained on sequences of 8 steps alone, and its behaviour on longer ones has not been examined. Its "
        "eight numbers of memory stand for a belief over hidden states that the data's own law tracks exactly.",
    ),
    "belief-rnn-synthetic-hmm": Recipe(
        "fit belief-rnn --data synthetic-hmm --num-states 2 --batch-size 100 --epochs 40 --seed 0",
        "It has the law of an HMM with two states, so only its parameters can be wrong; data from a chain with more "
        "states are beyond it.",
    ),
    "particle-filter-rnn-synthetic-hmm": Recipe(
        "fit particle-filter-rnn --data synthetic-hmm --num-states 2 --num-particles 20 --batch-size 100 --epochs 5 "
        "--seed 0",
        "Only its laws of observations learn: no gradient reaches the probabilities that move the particles, which "
        "stay as they were drawn. So it has a wrong chain behind it, and with 20 particles some noise, and is worse "
        "than the other models of these data.",
    ),
    "lgssm-japanese-vowels": Recipe(
        "fit lgssm --data japanese-vowels --latent-dim 8 --iterations 100",
        "Its noise is the same at every step and in every state, so that the spectrum flickers from frame to frame "
        "where speech glides: of 300 draws of 16 frames the correlation of a coefficient with itself one frame "
        "later is 0.85, that of the test split 0.97. It has one mean path for all speakers.",
    ),
    "hmm-japanese-vowels-32": Recipe(
        "fit hmm --data japanese-vowels --num-states 32 --seed 0",
        "The spectrum stands still in a state and jumps to another, with independent noise in every coefficient and "
        "frame: nothing glides, and nine speakers share 32 states. It is the worst of the models of these data.",
    ),
    "rnn-lstm-japanese-vowels": Recipe(
        "fit rnn --data japanese-vowels --cell lstm --hidden-dim 64 --learning-rate 5e-3 --seed 0",
        "Coefficients of a frame are independent given the past. It has no latent state for who speaks: the first "
        "frames decide, by their noise. It knows only recordings of 7 to 29 frames; longer draws have not been "
        "examined.",
    ),
    "vrnn-japanese-vowels": Recipe(
        "fit vrnn --data japanese-vowels --latent-dim 8 --hidden-dim 48 --epochs 150 --learning-rate 3e-3 "
        "--schedule cosine --kl-warmup 15 --valid-particles 4 --weight-decay 1e-2 --patience 40 --seed 0",
        "It was trained on 216 utterances and fits them better than new ones (see the table). Draws glide as speech "
        "does: the correlation of a coefficient with itself one frame later is 0.96 in 300 draws of 16 frames and "
        "0.97 in the test split. Their first two coefficients vary a tenth less than those of the data.",
    ),
    "hmm-kanji-64": Recipe(
        "fit hmm --data kanji --num-states 64 --restarts 1 --iterations 60 --seed 0",
        "Each of its 64 states is one kind of stroke, and the chain remembers one stroke: draws are strokes of the "
        "right kinds in a row that make no characters and wander over the page. In a state, an offset has a single "
        "normal law; the score is worse than an LSTM's by 1.8 nats per step.",
    ),
    "rnn-lstm-kanji": Recipe(
        "fit rnn --data kanji --cell lstm --hidden-dim 160 --epochs 20 --batch-size 64 --learning-rate 4e-3 "
        "--schedule cosine --seed 0",
        "Draws look like characters from a distance: strokes, and many parts are right, their composition is not, "
        "parts are left open and stand at the wrong height. It does not know when a drawing ends: after some forty "
        "steps it begins another one on top of it or beside it.",
    ),
    "markov-chain-nottingham": Recipe(
        "fit markov-chain --data nottingham",
        "Each key is a chain of its own and knows nothing of the others, so there is no harmony at all.",
    ),
    "noisy-rnn-japanese-vowels": Recipe(
        "fit noisy-rnn --data japanese-vowels --latent-dim 8 --objective fivo --num-particles 4 --epochs 60 "
        "--learning-rate 1e-2 --schedule cosine --seed 0",
        "Its guide proposes a state from the one before, without looking at the frame, so that few particles are "
        "near it and the bound that it was trained on is loose: the noise stays large, and it is far worse than the "
        "linear-Gaussian model with the same number of states, whose EM needs seconds. It is here because the "
        "extended Kalman filter and the particle filter are tried on it.",
    ),
    "vrnn-kanji": Recipe(
        "fit vrnn --data kanji --latent-dim 16 --hidden-dim 96 --epochs 36 --batch-size 64 --learning-rate 3e-3 "
        "--schedule cosine --kl-warmup 2 --valid-particles 1 --seed 0",
        "Draws are made of strokes and parts of real characters in plausible places, but few of the characters "
        "exist: parts are left unfinished or cross their neighbours. It does not know when a drawing ends: after "
        "some forty steps it begins another one on top of it or beside it. Its bound is that of a filter with 128 "
        "particles. With fewer epochs it is far worse, 0.6 nats per step after 16.",
    ),
    "hmm-nottingham-16": Recipe(
        "fit hmm --data nottingham --num-states 16 --restarts 2 --iterations 60 --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Sixteen states are few for 1000 tunes: a state is a chord with any melody note above "
        "it.",
    ),
    "hmm-nottingham-64": Recipe(
        "fit hmm --data nottingham --num-states 64 --restarts 1 --iterations 60 --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Of 60 draws of 60 steps, 74 % of the steps have three or four keys (3.95 on average, "
        "standard deviation 0.96) and 3 % have two keys a semitone apart. In the test split 84 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart.",
    ),
    "rnn-lstm-tiny-shakespeare": Recipe(
        "fit rnn --data tiny-shakespeare --cell lstm --hidden-dim 192 --epochs 8 --batch-size 64 --learning-rate "
        "5e-3 --schedule cosine --half --seed 0",
        "Draws have speakers in capitals, lines of the right length and many English words; every line has invented "
        "words, and no sentence means anything. It was trained on windows of 100 characters from an empty memory, "
        "so it was never trained on what follows after more of them. It fits its training text 0.2 nats per "
        "character better than the rest.",
    ),
    "dmm-jsb": Recipe(
        "fit dmm --data jsb --latent-dim 32 --hidden-dim 128 --guide-dim 160 --epochs 2000 --learning-rate 2e-3 "
        "--schedule cosine --batch-size 20 --kl-warmup 300 --valid-particles 1 --weight-decay 1.3e-1 --patience 2000 "
        "--seed 0",
        "The keys of a step are independent given the latent state. Of 60 draws of 60 steps, 66 % of the steps have "
        "three or four keys (3.80 on average, standard deviation 1.12) and 8 % have two keys a semitone apart. In "
        "the test split 100 % of the steps have three or four keys, and 1 % have two a semitone apart. Its guide is "
        "far from the posterior: of 500 draws some two carry the weight of a sequence, so that the importance "
        "sampled figure is too high, and the filter's is the one to compare with. By the filter it is better by 0.5 "
        "nats per step on the training data than on new pieces. The minutes of its training include pauses and "
        "other work on the machine; it takes about 14 alone.",
    ),
    "rnn-lstm-nade-nottingham": Recipe(
        "fit rnn --data nottingham --cell lstm --hidden-dim 200 --nade-dim 64 --half --transpose 2 --batch-size 8 "
        "--epochs 12 --learning-rate 5e-3 --schedule cosine --weight-decay 1e-3 --seed 0",
        "Draws are a melody over chords, like the data: of 60 draws of 60 steps, 78 % of the steps have three or four "
        "keys (3.89 on average, standard deviation 0.85), 7 % have two keys a semitone apart, and 38 % are the same as "
        "the step before. In the test split 84 % have three or four keys, 1 % two a semitone apart, and 35 % are the "
        "same as the step before. It was trained on four copies of each tune in other keys, too, and was still "
        "improving when the fit ended.",
    ),
    "rnn-lstm-nottingham": Recipe(
        "fit rnn --data nottingham --cell lstm --hidden-dim 128 --batch-size 4 --epochs 30 --learning-rate 5e-3 "
        "--schedule cosine --seed 0",
        "The keys of a step are independent given the past, so that a choice between two chords becomes a mixture "
        "of their notes. Of 60 draws of 60 steps, 42 % of the steps have three or four keys (4.02 on average, "
        "standard deviation 1.99) and 26 % have two keys a semitone apart. In the test split 84 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart.",
    ),
    "hmm-nottingham-128": Recipe(
        "fit hmm --data nottingham --num-states 128 --restarts 1 --iterations 60 --pseudo-count 0.05 --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Of 60 draws of 60 steps, 75 % of the steps have three or four keys (3.94 on average, "
        "standard deviation 1.01) and 3 % have two keys a semitone apart. In the test split 84 % of the steps have "
        "three or four keys, and 1 % have two a semitone apart. How long a chord lasts is random, by its state's "
        "transition probabilities.",
    ),
}
