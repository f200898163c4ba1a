/* SPDX-License-Identifier: Apache-2.0 */
/* The architectures.  Judge of every row: logits of llama.cpp for random models of that family
 * (tests/data/archs). */
#include "worker/engine/arch.h"

#include <stdio.h>
#include <string.h>

static const struct arch archs[] = {
    /* Llama 1 to 3, Mistral (its window is ignored, as in llama.cpp), Mixtral, SmolLM2, TinyLlama.
     */
    {.name = "llama",
     .rope = ARCH_ROPE_NORM,
     .attn_scale = ARCH_ATTN_SCALE_KEY,
     .tensor_scales = ARCH_SCALE_QKV | ARCH_SCALE_O | ARCH_SCALE_FFN | ARCH_SCALE_EXPERTS,
     .pre_norm = true,
     .has_experts = true,
     .rope_factors = true},
    {.name = "qwen2",
     .rope = ARCH_ROPE_NEOX,
     .tensor_scales = ARCH_SCALE_QKV | ARCH_SCALE_O,
     .pre_norm = true},
    {.name = "qwen3",
     .rope = ARCH_ROPE_NEOX,
     .qk_norm = ARCH_QK_NORM_HEAD,
     .tensor_scales = ARCH_SCALE_QKV | ARCH_SCALE_O | ARCH_SCALE_FFN,
     .pre_norm = true},
    {.name = "gemma2",
     .rope = ARCH_ROPE_NEOX,
     .ffn = ARCH_FFN_GELU,
     .attn_scale = ARCH_ATTN_SCALE_GEMMA2,
     .tensor_scales = ARCH_SCALE_QKV | ARCH_SCALE_O,
     .pre_norm = true,
     .post_norm = true,
     .swa_period = 2,
     .swa_window = 4096,
     .attn_softcap = true,
     .final_softcap = true,
     .embed_sqrt = true},
    {.name = "gemma3",
     .rope = ARCH_ROPE_NEOX,
     .qk_norm = ARCH_QK_NORM_HEAD,
     .ffn = ARCH_FFN_GELU,
     .attn_scale = ARCH_ATTN_SCALE_GEMMA3,
     .tensor_scales = ARCH_SCALE_QKV | ARCH_SCALE_O,
     .pre_norm = true,
     .post_norm = true,
     .swa_period = 6,
     .swa_rope_base = 10000.0f,
     .swa_rope_plain = true,
     .final_softcap = true,
     .embed_sqrt = true},
    /* Phi-3, 3.5, 4 and 4-mini.  The window in their files is ignored, as in llama.cpp. */
    {.name = "phi3",
     .rope = ARCH_ROPE_NEOX,
     .tensor_scales = ARCH_SCALE_QKV | ARCH_SCALE_O,
     .pre_norm = true,
     .rope_factors = true},
    {.name = "granite",
     .rope = ARCH_ROPE_NORM,
     .attn_scale = ARCH_ATTN_SCALE_KEY,
     .tensor_scales = ARCH_SCALE_QKV | ARCH_SCALE_O,
     .pre_norm = true,
     .has_experts = true,
     .rope_switch = true,
     .rope_factors = true,
     .embedding_scale = true,
     .residual_scale = true,
     .logit_scale = true},
    {.name = "smollm3",
     .rope = ARCH_ROPE_NORM,
     .attn_scale = ARCH_ATTN_SCALE_KEY,
     .tensor_scales = ARCH_SCALE_QKV | ARCH_SCALE_O,
     .pre_norm = true,
     .rope_skip_period = 4},
    {.name = "olmo2",
     .rope = ARCH_ROPE_NEOX,
     .qk_norm = ARCH_QK_NORM_WIDTH,
     .tensor_scales = ARCH_SCALE_QKV | ARCH_SCALE_O,
     .post_norm = true,
     .swa_period = 4,
     .swa_rope_plain = true},
};

int arch_find(const char *name, const struct arch **ret, struct err *err)
{
    char list[256] = "";
    size_t len = 0;
    for (size_t i = 0; i < ARRAY_LEN(archs); i++) {
        if (strcmp(archs[i].name, name) == 0) {
            *ret = &archs[i];
            return 0;
        }
        int n = snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", archs[i].name);
        if (n > 0 && (size_t)n < sizeof list - len)
            len += (size_t)n;
    }
    return err_set(err, E_UNSUPPORTED, "berth's engine has no architecture '%s'; it has %s", name,
                   list);
}
