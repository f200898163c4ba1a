/* SPDX-License-Identifier: Apache-2.0 */
/* strftime_now: Python's datetime.strftime in the C locale, for a time taken as UTC. */
#include <stdio.h>
#include <time.h>

#include "worker/text/jinja/runtime.h"

static const char *const DAYS[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                   "Thursday", "Friday", "Saturday"};
static const char *const MONTHS[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

static bool is_leap(int y)
{
    return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* ISO 8601 week and its year. */
static void iso_week(const struct tm *t, int *year, int *week)
{
    int wday = (t->tm_wday + 6) % 7; /* Monday 0 */
    *year = t->tm_year + 1900;
    *week = (t->tm_yday - wday + 10) / 7;
    int n_days = is_leap(*year) ? 366 : 365;
    if (*week < 1) {
        (*year)--;
        int last = (t->tm_yday + (is_leap(*year) ? 366 : 365) - wday + 10) / 7;
        *week = last;
    } else if (*week == 53 && t->tm_yday - wday + 3 >= n_days) {
        (*year)++;
        *week = 1;
    }
}

static void put(struct sb *b, const char *fmt_digits, int v)
{
    char tmp[24];
    if (fmt_digits[0] == ' ')
        snprintf(tmp, sizeof(tmp), "%2d", v);
    else
        snprintf(tmp, sizeof(tmp), "%0*d", fmt_digits[0] - '0', v);
    sb_lit(b, tmp);
}

static void put_all(struct sb *b, const struct tm *t, int64_t unix_s, const char *fmt);

static bool put_number(struct sb *b, const struct tm *t, int64_t unix_s, char c)
{
    int year = t->tm_year + 1900, hour12 = t->tm_hour % 12 ? t->tm_hour % 12 : 12, iso_y, iso_w;
    iso_week(t, &iso_y, &iso_w);
    switch (c) {
    case 'Y': put(b, "1", year); break;
    case 'C': put(b, "2", year / 100); break;
    case 'y': put(b, "2", year % 100); break;
    case 'm': put(b, "2", t->tm_mon + 1); break;
    case 'd': put(b, "2", t->tm_mday); break;
    case 'e': put(b, " ", t->tm_mday); break;
    case 'H': put(b, "2", t->tm_hour); break;
    case 'k': put(b, " ", t->tm_hour); break;
    case 'I': put(b, "2", hour12); break;
    case 'l': put(b, " ", hour12); break;
    case 'M': put(b, "2", t->tm_min); break;
    case 'S': put(b, "2", t->tm_sec); break;
    case 'f': put(b, "6", 0); break;
    case 'j': put(b, "3", t->tm_yday + 1); break;
    case 'u': put(b, "1", t->tm_wday ? t->tm_wday : 7); break;
    case 'w': put(b, "1", t->tm_wday); break;
    case 'U': put(b, "2", (t->tm_yday + 7 - t->tm_wday) / 7); break;
    case 'W': put(b, "2", (t->tm_yday + 7 - (t->tm_wday + 6) % 7) / 7); break;
    case 'V': put(b, "2", iso_w); break;
    case 'G': put(b, "1", iso_y); break;
    case 'g': put(b, "2", iso_y % 100); break;
    case 's': sb_int(b, unix_s); break;
    default: return false;
    }
    return true;
}

static bool put_one(struct sb *b, const struct tm *t, int64_t unix_s, char c)
{
    char three[4] = {0};
    switch (c) {
    case 'A': sb_lit(b, DAYS[t->tm_wday]); break;
    case 'a':
        memcpy(three, DAYS[t->tm_wday], 3);
        sb_lit(b, three);
        break;
    case 'B': sb_lit(b, MONTHS[t->tm_mon]); break;
    case 'b':
    case 'h':
        memcpy(three, MONTHS[t->tm_mon], 3);
        sb_lit(b, three);
        break;
    case 'p': sb_lit(b, t->tm_hour < 12 ? "AM" : "PM"); break;
    case 'P': sb_lit(b, t->tm_hour < 12 ? "am" : "pm"); break;
    case 'c': put_all(b, t, unix_s, "%a %b %e %H:%M:%S %Y"); break;
    case 'x':
    case 'D': put_all(b, t, unix_s, "%m/%d/%y"); break;
    case 'X':
    case 'T': put_all(b, t, unix_s, "%H:%M:%S"); break;
    case 'R': put_all(b, t, unix_s, "%H:%M"); break;
    case 'r': put_all(b, t, unix_s, "%I:%M:%S %p"); break;
    case 'F': put_all(b, t, unix_s, "%Y-%m-%d"); break;
    case 'n': sb_lit(b, "\n"); break;
    case 't': sb_lit(b, "\t"); break;
    case '%': sb_lit(b, "%"); break;
    case 'z':
    case 'Z': break; /* a naive datetime has no zone */
    default: return put_number(b, t, unix_s, c);
    }
    return true;
}

static void put_all(struct sb *b, const struct tm *t, int64_t unix_s, const char *fmt)
{
    for (; *fmt; fmt++) {
        if (*fmt == '%' && fmt[1])
            put_one(b, t, unix_s, *++fmt);
        else
            sb_put(b, fmt, 1, false);
    }
}

int strftime_format(struct rt *rt, struct jstr *fmt, int64_t unix_s, struct value *out)
{
    time_t when = (time_t)unix_s;
    struct tm t;
    struct sb b;
    if (!gmtime_r(&when, &t) || t.tm_year > 9999 - 1900 || t.tm_year < 1 - 1900)
        return rt_fail(rt, E_INVALID, "the time %lld is outside the years 1 to 9999",
                       (long long)unix_s);
    TRY(rt_charge(rt, fmt->len * 8));
    sb_init(&b, rt);
    for (size_t i = 0; i < fmt->len && !b.failed; i++) {
        size_t c = i + 1;
        bool no_pad =
            c < fmt->len && fmt->p[i] == '%' && fmt->p[c] == '-'; /* glibc: without padding */
        c += no_pad;
        if (fmt->p[i] != '%' || c >= fmt->len) {
            sb_sub(&b, fmt, i, i + 1);
            continue;
        }
        if (!no_pad) {
            if (!put_one(&b, &t, unix_s, fmt->p[c]))
                sb_sub(&b, fmt, i, c + 1);
            i = c;
            continue;
        }
        struct sb one;
        sb_init(&one, rt);
        bool known = put_one(&one, &t, unix_s, fmt->p[c]);
        size_t skip = 0;
        while (skip + 1 < one.len && (one.p[skip] == '0' || one.p[skip] == ' ') &&
               one.p[skip + 1] >= '0' && one.p[skip + 1] <= '9')
            skip++;
        if (known)
            sb_put(&b, one.p + skip, one.len - skip, false);
        else
            sb_sub(&b, fmt, i, c + 1);
        i = c;
    }
    return sb_finish(&b, out);
}
