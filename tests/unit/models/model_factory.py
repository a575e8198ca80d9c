# SPDX-License-Identifier: Apache-2.0
"""A small model and batches for it, built without a task or files."""

import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.layers.utterance_mvn import UtteranceMVN

from espnet_objsoup.models.objsoup_model import ESPnetObjSoupModel
from espnet_objsoup.models.ssl import CPC, AbsSSLHead, BestRQ, Subsampling
from espnet_objsoup.models.task_head import TaskHead

LANGUAGES = ["de", "en", "fr"]
OBJECTIVES = ["asr/de", "asr/en", "asr/fr", "st/de-en", "st/fr-en"]
TOKENS = ["<blank>", "<unk>", "<de>", "<en>", "<fr>", *"abcdefghij", "<sos/eos>"]
SIZE = 16
N_MELS = 20
CONV1D2 = Subsampling(factor=2, min_frames=5)


def make_decoder() -> TransformerDecoder:
    return TransformerDecoder(
        vocab_size=len(TOKENS),
        encoder_output_size=SIZE,
        attention_heads=2,
        linear_units=32,
        num_blocks=1,
        dropout_rate=0.0,
        positional_dropout_rate=0.0,
        self_attention_dropout_rate=0.0,
        src_attention_dropout_rate=0.0,
    )


def make_ctc() -> CTC:
    return CTC(odim=len(TOKENS), encoder_output_size=SIZE, reduce=False)


def make_model(
    shared_decoder: bool = False, ctc_weight: float = 0.3, loss_mode: str = "token", **options
) -> ESPnetObjSoupModel:
    torch.manual_seed(0)
    frontend = DefaultFrontend(fs=16000, n_fft=512, win_length=400, hop_length=160, n_mels=N_MELS)
    encoder = EBranchformerEncoder(
        input_size=N_MELS,
        output_size=SIZE,
        attention_heads=2,
        cgmlp_linear_units=32,
        cgmlp_conv_kernel=3,
        linear_units=32,
        num_blocks=2,
        dropout_rate=0.0,
        positional_dropout_rate=0.0,
        attention_dropout_rate=0.0,
        input_layer="conv1d2",
        rel_pos_type="latest",
        macaron_ffn=True,
        use_ffn=True,
        merge_conv_kernel=3,
    )
    st_decoder = make_decoder()
    asr_decoder = st_decoder if shared_decoder else make_decoder()
    return ESPnetObjSoupModel(
        token_list=TOKENS,
        languages=LANGUAGES,
        objectives=options.pop("objectives", OBJECTIVES),
        frontend=frontend,
        specaug=None,
        normalize=UtteranceMVN(),
        preencoder=None,
        encoder=encoder,
        asr_head=TaskHead(asr_decoder, make_ctc(), ctc_weight, 0.1, loss_mode),
        st_head=TaskHead(st_decoder, None, 0.0, 0.1, loss_mode),
        **options,
    )


def make_batch(
    rows: list[tuple[str, str | None, int, int]], seconds: list[float] | None = None
) -> dict[str, torch.Tensor]:
    """Rows of (language, target language or None, transcript tokens, translation tokens)."""
    generator = torch.Generator().manual_seed(len(rows))
    seconds = seconds or [0.4 + 0.1 * i for i in range(len(rows))]
    samples = torch.tensor([int(16000 * s) for s in seconds])
    speech = torch.zeros(len(rows), int(samples.max()))
    for i, n in enumerate(samples):
        speech[i, :n] = torch.randn(int(n), generator=generator)
    batch = {"speech": speech, "speech_lengths": samples}
    for name, column in (("text", 2), ("st_text", 3)):
        lengths = torch.tensor([row[column] for row in rows])
        ids = torch.full((len(rows), int(lengths.max())), -1)
        for i, n in enumerate(lengths):
            ids[i, :n] = torch.randint(5, 15, (int(n),), generator=generator)
        batch |= {name: ids, f"{name}_lengths": lengths}
    index = {None: -1, **{code: i for i, code in enumerate(LANGUAGES)}}
    batch["lang"] = torch.tensor([[index[row[0]]] for row in rows])
    batch["tgt_lang"] = torch.tensor([[index[row[1]]] for row in rows])
    return batch


def make_ssl_head(name: str, **conf) -> AbsSSLHead:
    if name == "cpc":
        return CPC(N_MELS, SIZE, CONV1D2, **{"n_steps": 3, "n_negatives": 5, **conf})
    return BestRQ(N_MELS, SIZE, CONV1D2, **{"mask_frames": 8, "n_codes": 32, **conf})


def make_ssl_model(name: str, **options) -> ESPnetObjSoupModel:
    conf = options.pop("ssl_conf", {})
    objectives = [*options.pop("objectives", OBJECTIVES), "ssl"]
    return make_model(objectives=objectives, ssl_head=make_ssl_head(name, **conf), **options)


MIXED = [("fr", "en", 3, 4), ("de", "en", 2, 2), ("en", None, 4, 0), ("fr", None, 2, 0)]
