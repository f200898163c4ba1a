/* SPDX-License-Identifier: Apache-2.0 */
/* Implements class.h on utf8proc's table of general categories. */
#include "worker/text/tok/class.h"

#include <utf8proc.h>

/* Non-ASCII classes of one set: 16 slots in the order of enum tok_cat. */
#define SET_BITS CB_SPACE, CB_L, CB_L, CB_L, CB_L, CB_L, CB_M, CB_N, 0, 0, 0, 0, 0, 0, 0, 0
#define LETTER   (CB_L | CB_WORD)
#define DIGIT    (CB_N | CB_DIGIT | CB_WORD)

const unsigned char tok_class_bits[256] = {
    ['\t'] = CB_SPACE,
    ['\n'] = CB_SPACE | CB_CRLF,
    ['\v'] = CB_SPACE,
    ['\f'] = CB_SPACE,
    ['\r'] = CB_SPACE | CB_CRLF,
    [' '] = CB_SPACE,
    ['0' ... '9'] = DIGIT,
    ['A' ... 'Z'] = LETTER,
    ['a' ... 'z'] = LETTER,
    ['_'] = CB_WORD,
    [0x80] = SET_BITS,
    SET_BITS,
    SET_BITS,
    SET_BITS,
    SET_BITS,
    SET_BITS,
    SET_BITS,
    SET_BITS,
};

/* The property White_Space beyond ASCII. */
static bool is_space(uint32_t cp)
{
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

enum tok_cat tok_category(uint32_t cp)
{
    if (cp < 0x80 ? cp == ' ' || (cp >= '\t' && cp <= '\r') : is_space(cp))
        return CAT_SPACE;
    if (cp >= 0x2EBF0 && cp <= 0x2EE5D)
        return CAT_LO; /* CJK extension I of Unicode 15.1, which utf8proc 2.8 does not know yet */
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU: return CAT_LU;
    case UTF8PROC_CATEGORY_LL: return CAT_LL;
    case UTF8PROC_CATEGORY_LT: return CAT_LT;
    case UTF8PROC_CATEGORY_LM: return CAT_LM;
    case UTF8PROC_CATEGORY_LO: return CAT_LO;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return CAT_M;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return CAT_N;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return CAT_P;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return CAT_S;
    default: return CAT_OTHER;
    }
}

unsigned char tok_class(uint32_t cp, const struct tok_range *ranges, size_t n_ranges)
{
    if (cp < 0x80)
        return (unsigned char)cp;
    const enum tok_cat cat = tok_category(cp);
    unsigned set = 0;
    if (cat != CAT_SPACE) {
        size_t lo = 0, hi = n_ranges;
        while (lo < hi) {
            const size_t mid = lo + (hi - lo) / 2;
            if (ranges[mid].hi < cp)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo < n_ranges && ranges[lo].lo <= cp)
            set = ranges[lo].set;
    }
    return (unsigned char)(0x80u | set << 4 | (unsigned)cat);
}
