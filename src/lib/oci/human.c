/* SPDX-License-Identifier: Apache-2.0 */
/* Implements config.h's words for sizes and times. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/oci/config.h"

static void put_scaled(uint64_t n, double base, const char *const *units, size_t n_units,
                       char ret[OCI_HUMAN_CHARS])
{
    double v = (double)n;
    size_t i = 0;
    while (v >= base && i + 1 < n_units) {
        v /= base;
        i++;
    }
    if (i == 0)
        snprintf(ret, OCI_HUMAN_CHARS, "%llu%s", (unsigned long long)n, units[0]);
    else
        snprintf(ret, OCI_HUMAN_CHARS, "%.2f%s", v, units[i]);
}

void oci_put_human_count(uint64_t n, char ret[OCI_HUMAN_CHARS])
{
    static const char *const units[] = {"", "K", "M", "B", "T"};
    put_scaled(n, 1000, units, ARRAY_LEN(units), ret);
}

void oci_put_human_bytes(uint64_t n, char ret[OCI_HUMAN_CHARS])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    put_scaled(n, 1024, units, ARRAY_LEN(units), ret);
}

/* n digits at s, or -1. */
static int digits(const char *s, int n)
{
    int v = 0;
    for (int i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        v = v * 10 + (s[i] - '0');
    }
    return v;
}

/* What follows the seconds: a fraction, then Z or an offset, whose seconds go to *ret. */
static bool zone_parse(const char *p, int64_t *ret)
{
    if (*p == '.') {
        size_t n = strspn(p + 1, "0123456789");
        if (n == 0 || n > 9)
            return false;
        p += n + 1;
    }
    *ret = 0;
    if ((*p == 'Z' || *p == 'z') && !p[1])
        return true;
    if ((*p != '+' && *p != '-') || strlen(p) != 6 || p[3] != ':')
        return false;
    int h = digits(p + 1, 2), m = digits(p + 4, 2);
    if (h < 0 || h > 23 || m < 0 || m > 59)
        return false;
    *ret = (h * 3600 + m * 60) * (*p == '-' ? -1 : 1);
    return true;
}

bool oci_time_parse(struct str s, int64_t *ret_unix)
{
    char t[48];
    int64_t zone;
    if (s.len < 20 || s.len >= sizeof(t))
        return false;
    memcpy(t, s.p, s.len);
    t[s.len] = '\0';
    struct tm tm = {.tm_year = digits(t, 4) - 1900,
                    .tm_mon = digits(t + 5, 2) - 1,
                    .tm_mday = digits(t + 8, 2),
                    .tm_hour = digits(t + 11, 2),
                    .tm_min = digits(t + 14, 2),
                    .tm_sec = digits(t + 17, 2)};
    bool ok = t[4] == '-' && t[7] == '-' && (t[10] == 'T' || t[10] == 't') && t[13] == ':' &&
              t[16] == ':' && tm.tm_year >= -1899 && tm.tm_mon >= 0 && tm.tm_mon < 12 &&
              tm.tm_mday >= 1 && tm.tm_mday <= 31 && tm.tm_hour >= 0 && tm.tm_hour < 24 &&
              tm.tm_min >= 0 && tm.tm_min < 60 && tm.tm_sec >= 0 && tm.tm_sec <= 60;
    if (!ok || !zone_parse(t + 19, &zone))
        return false;
    *ret_unix = (int64_t)timegm(&tm) - zone;
    return true;
}

void oci_time_put(int64_t unix_s, char ret[OCI_TIME_CHARS])
{
    time_t t = (time_t)unix_s;
    struct tm tm;
    ret[0] = '\0';
    if (gmtime_r(&t, &tm) && tm.tm_year > -1900 && tm.tm_year <= 9999 - 1900)
        strftime(ret, OCI_TIME_CHARS, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (ret[0] && ret[4] != '-') /* %Y of years before 1000 is short */
        ret[0] = '\0';
}
