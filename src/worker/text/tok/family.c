/* SPDX-License-Identifier: Apache-2.0 */
/* The families of family.h.  Each rule is the one of the models' own tokenizer.json, as far as the
 * file format's runtime (llama.cpp) keeps to it; where the two differ, the ids of the runtime are
 * what the files' users know, and its rule stands here.
 *
 * Patterns speak of classes: {L} letters, {Lu} {Ll} {Lt} {Lm} {Lo} their kinds, {l} letters beyond
 * ASCII, {M} marks, {N} numbers, {P} punctuation, {S} symbols, {s} white space, {b0} {b1} {b2} the
 * family's own sets by bit, {=1} ... by value.  They stand inside [...] only. */
#include "worker/text/tok/family.h"

static const struct tok_range deepseek_llm_ranges[] = {
    {0xB5, 0xB5, 1},       {0xC0, 0xD6, 1},       {0xD8, 0xF6, 1},       {0xF8, 0x1BA, 1},
    {0x1BC, 0x1BF, 1},     {0x1C4, 0x293, 1},     {0x295, 0x2AF, 1},     {0x370, 0x373, 1},
    {0x376, 0x377, 1},     {0x37B, 0x37D, 1},     {0x37F, 0x37F, 1},     {0x386, 0x386, 1},
    {0x388, 0x38A, 1},     {0x38C, 0x38C, 1},     {0x38E, 0x3A1, 1},     {0x3A3, 0x3F5, 1},
    {0x3F7, 0x481, 1},     {0x48A, 0x52F, 1},     {0x531, 0x556, 1},     {0x800, 0x109F, 4},
    {0x10A0, 0x10C5, 5},   {0x10C6, 0x139F, 4},   {0x13A0, 0x13F5, 5},   {0x13F6, 0x13F7, 4},
    {0x13F8, 0x13FD, 5},   {0x13FE, 0x1C8F, 4},   {0x1C90, 0x1CBA, 5},   {0x1CBB, 0x1CBC, 4},
    {0x1CBD, 0x1CBF, 5},   {0x1CC0, 0x1CFF, 4},   {0x1D00, 0x1D2B, 5},   {0x1D2C, 0x1D6A, 4},
    {0x1D6B, 0x1D77, 5},   {0x1D78, 0x1D78, 4},   {0x1D79, 0x1D9A, 5},   {0x1D9B, 0x1DFF, 4},
    {0x1E00, 0x1F15, 5},   {0x1F16, 0x1F17, 4},   {0x1F18, 0x1F1D, 5},   {0x1F1E, 0x1F1F, 4},
    {0x1F20, 0x1F45, 5},   {0x1F46, 0x1F47, 4},   {0x1F48, 0x1F4D, 5},   {0x1F4E, 0x1F4F, 4},
    {0x1F50, 0x1F57, 5},   {0x1F58, 0x1F58, 4},   {0x1F59, 0x1F59, 5},   {0x1F5A, 0x1F5A, 4},
    {0x1F5B, 0x1F5B, 5},   {0x1F5C, 0x1F5C, 4},   {0x1F5D, 0x1F5D, 5},   {0x1F5E, 0x1F5E, 4},
    {0x1F5F, 0x1F7D, 5},   {0x1F7E, 0x1F7F, 4},   {0x1F80, 0x1FB4, 5},   {0x1FB5, 0x1FB5, 4},
    {0x1FB6, 0x1FBC, 5},   {0x1FBD, 0x1FBD, 4},   {0x1FBE, 0x1FBE, 5},   {0x1FBF, 0x1FC1, 4},
    {0x1FC2, 0x1FC4, 5},   {0x1FC5, 0x1FC5, 4},   {0x1FC6, 0x1FCC, 5},   {0x1FCD, 0x1FCF, 4},
    {0x1FD0, 0x1FD3, 5},   {0x1FD4, 0x1FD5, 4},   {0x1FD6, 0x1FDB, 5},   {0x1FDC, 0x1FDF, 4},
    {0x1FE0, 0x1FEC, 5},   {0x1FED, 0x1FF1, 4},   {0x1FF2, 0x1FF4, 5},   {0x1FF5, 0x1FF5, 4},
    {0x1FF6, 0x1FFC, 5},   {0x1FFD, 0x2017, 4},   {0x2018, 0x201F, 6},   {0x2020, 0x2101, 4},
    {0x2102, 0x2102, 5},   {0x2103, 0x2106, 4},   {0x2107, 0x2107, 5},   {0x2108, 0x2109, 4},
    {0x210A, 0x2113, 5},   {0x2114, 0x2114, 4},   {0x2115, 0x2115, 5},   {0x2116, 0x2118, 4},
    {0x2119, 0x211D, 5},   {0x211E, 0x2123, 4},   {0x2124, 0x2124, 5},   {0x2125, 0x2125, 4},
    {0x2126, 0x2126, 5},   {0x2127, 0x2127, 4},   {0x2128, 0x2128, 5},   {0x2129, 0x2129, 4},
    {0x212A, 0x212D, 5},   {0x212E, 0x212E, 4},   {0x212F, 0x2134, 5},   {0x2135, 0x2138, 4},
    {0x2139, 0x2139, 5},   {0x213A, 0x213B, 4},   {0x213C, 0x213F, 5},   {0x2140, 0x2144, 4},
    {0x2145, 0x2149, 5},   {0x214A, 0x214D, 4},   {0x214E, 0x214E, 5},   {0x214F, 0x2182, 4},
    {0x2183, 0x2184, 5},   {0x2185, 0x2BFF, 4},   {0x2C00, 0x2C7B, 5},   {0x2C7C, 0x2C7D, 4},
    {0x2C7E, 0x2CE4, 5},   {0x2CE5, 0x2CEA, 4},   {0x2CEB, 0x2CEE, 5},   {0x2CEF, 0x2CF1, 4},
    {0x2CF2, 0x2CF3, 5},   {0x2CF4, 0x2FFF, 4},   {0x3000, 0x3002, 6},   {0x3003, 0x9FA5, 4},
    {0xA640, 0xA66D, 1},   {0xA680, 0xA69B, 1},   {0xA722, 0xA76F, 1},   {0xA771, 0xA787, 1},
    {0xA78B, 0xA78E, 1},   {0xAB70, 0xABBF, 1},   {0xAC00, 0xD7FF, 4},   {0xFB00, 0xFB06, 1},
    {0xFB13, 0xFB17, 1},   {0xFF01, 0xFF0F, 2},   {0xFF1A, 0xFF20, 2},   {0xFF21, 0xFF3A, 3},
    {0xFF3B, 0xFF40, 2},   {0xFF41, 0xFF5A, 3},   {0xFF5B, 0xFF5E, 2},   {0x10400, 0x1044F, 1},
    {0x104B0, 0x104D3, 1}, {0x104D8, 0x104FB, 1}, {0x10C80, 0x10CB2, 1}, {0x10CC0, 0x10CF2, 1},
    {0x118A0, 0x118DF, 1}, {0x1E900, 0x1E943, 1},
};

static const struct tok_range cjk_old_ranges[] = {
    {0x800, 0x9FA5, 1},
    {0xAC00, 0xD7FF, 1},
};

static const struct tok_range cjk_kana_ranges[] = {
    {0x3040, 0x30FF, 1},
    {0x4E00, 0x9FA5, 1},
};

static const struct tok_range afmoe_ranges[] = {
    {0xE40, 0xEFF, 1},   {0x1000, 0x109F, 1}, {0x1100, 0x11FF, 1},
    {0x1780, 0x17FF, 1}, {0x2F00, 0x2FDF, 1}, {0x3040, 0x30FF, 1},
    {0x3400, 0x4DBF, 1}, {0x4E00, 0xFAFF, 1}, {0xFF65, 0xFF9F, 1},
};

static const struct tok_range youtu_ranges[] = {
    {0x2014, 0x2014, 2}, {0x2018, 0x2019, 2}, {0x201C, 0x201D, 2}, {0x2026, 0x2026, 2},
    {0x3001, 0x303F, 2}, {0x3040, 0x30FF, 4}, {0x3105, 0x312F, 3}, {0x3131, 0x318E, 1},
    {0x4E00, 0x9FA5, 4}, {0xAC00, 0xD7A3, 1}, {0xFE30, 0xFE4F, 2}, {0xFF01, 0xFF01, 2},
    {0xFF0C, 0xFF0C, 2}, {0xFF1A, 0xFF1B, 2},
};

static const struct tok_range bloom_ranges[] = {
    {0x60C, 0x60C, 1},   {0x6D4, 0x6D4, 1},   {0x964, 0x964, 1},
    {0x2026, 0x2026, 1}, {0x3001, 0x3002, 1}, {0xFF0C, 0xFF0C, 1},
};

static const struct tok_range han_ranges[] = {
    /* blocks, as the runtime has them */
    {0x3400, 0x4DBF, 1},   {0x4E00, 0x9FFF, 1},   {0xF900, 0xFAFF, 1},
    {0x20000, 0x2A6DF, 1}, {0x2A700, 0x2EBEF, 1}, {0x2F800, 0x2FA1F, 1},
};

static const struct tok_range joiner_ranges[] = {{0x200C, 0x200D, 1}};

#define RANGES(r) r, ARRAY_LEN(r)
#define PATTERN(p)                                                                                 \
    {                                                                                              \
        STEP_PATTERN, 0, p                                                                         \
    }
#define GPT2                                                                                       \
    {                                                                                              \
        STEP_GPT2, 0, NULL                                                                         \
    }
#define WORDS(arg)                                                                                 \
    {                                                                                              \
        STEP_WORDS, arg, NULL                                                                      \
    }

#define CONTRACTION "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
#define LINES       "[{s}]*[\\r\\n]+|[{s}]+(?![^{s}])|[{s}]+"
#define SYMBOLS     " ?[^{s}{L}{N}]+"
/* Words that change case once: upper then lower, in ASCII only or by category. */
#define CASED(upper, lower, tail)                                                                  \
    "[^\\r\\n{L}{N}]?[" upper "]*[" lower "]+" tail "|[^\\r\\n{L}{N}]?[" upper "]+[" lower "]"     \
                                                                                           "*" tail
#define ASCII_PUNCT "!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~"

/* clang-format off */
const struct tok_family tok_families[] = {
    {"llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     PRE_IGNORE_MERGES | PRE_ADD_BOS, {WORDS(WORDS_3_DIGITS)}, NULL, 0},
    {"dbrx smaug-bpe glm4 glm5 chatglm-bpe", 0, {WORDS(WORDS_3_DIGITS)}, NULL, 0},
    {"qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", 0,
     {WORDS(WORDS_1_DIGIT)}, NULL, 0},
    {"qwen35", 0, {WORDS(WORDS_1_DIGIT | WORDS_MARKS)}, NULL, 0},
    {"gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert mpt olmo jais "
     "trillion granite-docling exaone4 jina-v1-en jina-v2-code roberta-bpe", 0, {GPT2}, NULL, 0},
    {"starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", 0, {PATTERN("[{N}]"), GPT2}, NULL, 0},
    {"falcon", 0, {PATTERN("[{P}$+<=>^~|`]+"), GPT2, PATTERN("[0-9][0-9][0-9]")}, NULL, 0},
    {"default", 0, {PATTERN("[{P}$+<=>^~|]+"), GPT2, PATTERN("[{N}]+"), PATTERN("[0-9][0-9][0-9]")}, NULL, 0},
    {"jais-2", 0, {WORDS(WORDS_3_DIGITS | WORDS_SPACES)}, NULL, 0},
    {"deepseek-llm", 0,
     {PATTERN("[\\r\\n]"), PATTERN("[{s}]?[A-Za-z{b0}]+"), PATTERN("[{s}]?[!-/:-~{b1}]+"),
      PATTERN("(?<![{s}])[{s}]+\\z"), PATTERN("[{b2}]+"), PATTERN("[{N}]+")},
     RANGES(deepseek_llm_ranges)},
    {"deepseek-coder", 0,
     {PATTERN("[\\r\\n]"), PATTERN("[{s}]?[{L}]+"), PATTERN("[{s}]?[{P}]+"), PATTERN("[{b0}]+"), PATTERN("[{N}]")},
     RANGES(cjk_old_ranges)},
    {"deepseek-v3 hunyuan-dense joyai-llm", 0,
     {PATTERN("[{N}]{1,3}"), PATTERN("[{b0}]+"),
      PATTERN("[" ASCII_PUNCT "][A-Za-z]+|[^\\r\\n{L}{P}{S}]?[{L}{M}]+| ?[{P}{S}]+[\\r\\n]*|" LINES)},
     RANGES(cjk_kana_ranges)},
    {"gpt-4o llama4 minimax-m2 kanana2 talkie", 0,
     {PATTERN(CASED("A-Z{l}", "a-z{l}", "(?:" CONTRACTION ")?") "|[{N}]{1,3}|" SYMBOLS "[\\r\\n/]*|" LINES)}, NULL, 0},
    {"granite-embed-multi-97m", PRE_IGNORE_MERGES,
     {PATTERN(CASED("A-Z{l}{M}", "a-z{l}{M}", "(?:" CONTRACTION ")?") "|[{N}]{1,3}|" SYMBOLS "[\\r\\n/]*|" LINES)},
     NULL, 0},
    {"tekken", PRE_IGNORE_MERGES | PRE_ADD_BOS,
     {PATTERN(CASED("A-Z{l}", "a-z{l}", "") "|[{N}]|" SYMBOLS "[\\r\\n/]*|" LINES)}, NULL, 0},
    {"tiny_aya cohere2moe", 0,
     {{STEP_DIGITS, 0, NULL},
      PATTERN("[^\\r\\n{L}{N}]?[{L}{M}]+(?:" CONTRACTION ")?" "|[{N}]{1,3}|" SYMBOLS "[\\r\\n/]*|" LINES)}, NULL, 0},
    {"kimi-k2", 0,
     {PATTERN("[{b0}]+|[^\\r\\n{L}{N}]?[A-Za-z{l=0}]+(?:" CONTRACTION ")?|[{N}]{1,3}|" SYMBOLS "[\\r\\n]*|" LINES)},
     RANGES(han_ranges)},
    {"superbpe", 0, {PATTERN("[{N}]+"), {STEP_DIGITS, DIGITS_ASCII, NULL}}, NULL, 0},
    {"afmoe", 0,
     {{STEP_DIGITS, 0, NULL}, PATTERN("[{b0}]+"),
      PATTERN("[" ASCII_PUNCT "][A-Za-z]+|[^\\r\\n{L}{P}{S}]?[{L}{M}]+| ?[{P}{S}]+[\\r\\n]*|" LINES)},
     RANGES(afmoe_ranges)},
    {"bailingmoe bailingmoe2 llada-moe", 0,
     {PATTERN(CONTRACTION "|[^\\r\\n{L}{N}]?[{L}]+|[{N}]|" SYMBOLS "[\\r\\n]*|[{s}]*[\\r\\n]|"
              "[{s}]+(?![^{s}])|[{s}]+")}, NULL, 0},
    {"seed-coder", 0,
     {PATTERN(CONTRACTION "|[^\\r\\n{L}{N}]?[{L}]+|[{N}]| ?[^{s}{L}{N}\\r\\n]+|" LINES)}, NULL, 0},
    {"poro-chat bloom gpt3-finnish", 0, {PATTERN(" ?[^({s}|.,!?{b0})]+")}, RANGES(bloom_ranges)},
    {"viking", 0, {PATTERN(" ?[^({s}|.,!?{b0})]+"), PATTERN("[{N}]")}, RANGES(bloom_ranges)},
    {"youtu", PRE_IGNORE_MERGES,
     {PATTERN("[{=1}]+|[{=2}]+|[{=3}]+|[{=4}]+"),
      PATTERN("[^\\r\\n{L}{N}]?[{L}{M}]+(?:" CONTRACTION ")?" "|[{N}]|" SYMBOLS "[\\r\\n/]*|" LINES)},
     RANGES(youtu_ranges)},
    {"exaone-moe", 0,
     {PATTERN(CONTRACTION "|[^\\r\\n{L}{N}]?[{L}][{L}{M}]*(?: [{L}][{L}{M}]*)*+|[{N}]|" SYMBOLS "[\\r\\n/]?|"
              "[{s}]*[\\r\\n]|[{s}]+(?![^{s}])|[{s}]+")}, NULL, 0},
    {"chameleon", PRE_ADD_BOS,
     {PATTERN("<sentinel:[0-9]+>"), PATTERN("IMGIMG[A-I]{1,4}Z"), PATTERN("[\\t\\n]|    |  "), PATTERN("[{N}]"),
      PATTERN("[{P}!-/:-@\\[-`{-~]"), GPT2},
     NULL, 0},
    {"k2-horizon", 0,
     {PATTERN(CONTRACTION "|[^\\r\\n{L}{N}]?[{L}{M}{b0}]+|[{N}]{1,3}|" SYMBOLS "[\\r\\n]*|" LINES)},
     RANGES(joiner_ranges)},
    {"ufakzeka", 0, {PATTERN("[^\\r\\n{L}{N}]?[{L}]+|[{N}]|" SYMBOLS "[\\r\\n]*|" LINES)}, NULL, 0},
    {"laguna", 0, {PATTERN("[\\n]+"), WORDS(WORDS_1_DIGIT)}, NULL, 0},
    {"minicpm5", PRE_IGNORE_MERGES, {PATTERN("[{N}]{1,3}"), WORDS(WORDS_3_DIGITS)}, NULL, 0},
    {"gemma4 granite-embed-multi-311m sarvam-moe", PRE_CHARS, {{STEP_END, 0, NULL}}, NULL, 0},
};
/* clang-format on */
const size_t tok_n_families = ARRAY_LEN(tok_families);
