/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in and out: bounded parsing over jansson, getters that name the field, and a writer onto a
 * buf.
 *
 * Parsing refuses what JSON forbids and what berth never needs: duplicate keys, NUL in keys, lone
 * surrogates, invalid UTF-8, a byte order mark, integers beyond int64, reals beyond double, and
 * more than LIMIT_JSON_DEPTH levels or LIMIT_JSON_VALUES values.  Any thread. */
#ifndef LIB_CODEC_JSON_H
#define LIB_CODEC_JSON_H

#include <jansson.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

/* One whole JSON text, any value at the top.  0 and *ret (a new reference: json_decref), or
 * E_FORMAT / E_LIMIT with the byte offset in the message. */
int json_parse(struct str text, json_t **ret, struct err *err) MUST_USE;

/* Typed getters of an object's field.  1 and *ret when it is there, 0 (and *ret untouched) when it
 * is absent or null, -E_INVALID when it is of another type or out of range, naming the field.
 * Strings are borrowed. */
int json_field_str(const json_t *obj, const char *name, struct str *ret, struct err *err) MUST_USE;
int json_field_bool(const json_t *obj, const char *name, bool *ret, struct err *err) MUST_USE;
int json_field_int(const json_t *obj, const char *name, int64_t min, int64_t max, int64_t *ret,
                   struct err *err) MUST_USE;
int json_field_num(const json_t *obj, const char *name, double min, double max, double *ret,
                   struct err *err) MUST_USE;
int json_field_obj(const json_t *obj, const char *name, const json_t **ret,
                   struct err *err) MUST_USE;
int json_field_arr(const json_t *obj, const char *name, const json_t **ret,
                   struct err *err) MUST_USE;

/* "an object", "a string" …, for messages. */
const char *json_kind(const json_t *v);

/* Writers append; failures are remembered by the buf (buf_status). */

/* A quoted string; bytes that are not UTF-8 become U+FFFD, so that what is written is always JSON.
 */
void json_put_str(struct buf *b, struct str s);
/* As json_put_str, without the quotes. */
void json_put_chars(struct buf *b, struct str s);
/* The shortest decimal that reads back as the same number, always with a point or an exponent; null
 * when v is not finite. */
void json_put_num(struct buf *b, double v);
/* The same for a float: the shortest decimal that reads back as the same float. */
void json_put_float(struct buf *b, float v);
/* Compact, keys in their order of arrival, unescaped UTF-8. */
void json_put_value(struct buf *b, const json_t *v);

#endif
