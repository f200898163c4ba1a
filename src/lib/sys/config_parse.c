/* SPDX-License-Identifier: Apache-2.0 */
/* Texts as values: the parsers of config.h's types. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/sys/config_impl.h"

int config_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                        struct err *err)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end || errno)
        return err_set(err, E_INVALID, "'%s' is not a whole number from %llu to %llu", text,
                       (unsigned long long)min, (unsigned long long)max);
    if (v < min || v > max)
        return err_set(err, E_INVALID, "%s is out of range: from %llu to %llu", text,
                       (unsigned long long)min, (unsigned long long)max);
    *ret = v;
    return 0;
}

int config_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *err)
{
    char *end;
    errno = 0;
    uint64_t v = strtoull(text, &end, 10);
    bool bad = !isdigit((unsigned char)text[0]) || errno;
    if (!bad && *end) {
        static const char units[] = "kmgt";
        const char *u = strchr(units, tolower((unsigned char)*end));
        bad = !u || !size_mul(v, 1ull << (10 * (u - units + 1)), &v);
        end++;
        if (!bad && (*end == 'i' || *end == 'I'))
            end++;
        if (!bad && (*end == 'b' || *end == 'B'))
            end++;
    }
    if (bad || *end)
        return err_set(err, E_INVALID,
                       "'%s' is not a size in bytes, such as 1073741824, 512M or 2G", text);
    if (v < min || v > max)
        return err_set(err, E_INVALID, "%s is out of range: from %llu to %llu bytes", text,
                       (unsigned long long)min, (unsigned long long)max);
    *ret = v;
    return 0;
}

int config_parse_duration(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                          struct err *err)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    uint64_t sum = 0, v = 0;
    const char *s = text;
    bool bad = false;
    if (strcmp(text, "-1") == 0) {
        *ret = CONFIG_FOREVER;
        return 0;
    }
    do {
        char *end;
        errno = 0;
        uint64_t scale = 1;
        bad = !isdigit((unsigned char)*s);
        v = strtoull(s, &end, 10);
        bad |= errno != 0;
        if (*end) {
            size_t i = 0;
            while (i < ARRAY_LEN(units) && units[i].unit != *end)
                i++;
            bad |= i == ARRAY_LEN(units);
            scale = bad ? 1 : units[i].seconds;
            end++;
        } else {
            bad |= s != text; /* a bare number stands alone */
        }
        bad = bad || !size_mul(v, scale, &v) || !size_add(sum, v, &sum);
        s = end;
    } while (!bad && *s);
    if (bad)
        return err_set(err, E_INVALID,
                       "'%.64s' is not a time: give seconds, or units as in 90s, 5m, 1h30m, 2d, or "
                       "-1 for ever",
                       text);
    if (sum < min || sum > max)
        return err_set(err, E_INVALID, "%.64s is out of range: from %llu to %llu seconds, or -1",
                       text, (unsigned long long)min, (unsigned long long)max);
    *ret = sum;
    return 0;
}

int config_parse_choice(const char *text, const char *choices, uint64_t *ret, struct err *err)
{
    size_t len = strlen(text);
    uint64_t i = 0;
    for (const char *s = choices; *s; i++) {
        size_t n = strcspn(s, "|");
        if (n == len && memcmp(s, text, n) == 0) {
            *ret = i;
            return 0;
        }
        s += n + (s[n] == '|');
    }
    return err_set(err, E_INVALID, "'%s' is not one of %s", text, choices);
}

int config_parse_switch(const char *text, uint64_t *ret, struct err *err)
{
    static const char *const words[] = {"no", "yes", "0", "1", "off", "on", "false", "true"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret = i & 1;
            return 0;
        }
    }
    return err_set(err, E_INVALID, "'%.64s' is neither yes nor no", text);
}
