/* SPDX-License-Identifier: Apache-2.0 */
/* JSON texts from any bytes, which come with the input's exact size: what is taken must be written
 * and read again as the same value, and any bytes must be a text that is. */
#include <stdint.h>
#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct buf *out, json_t **ret)
{
    struct err err = ERR_INIT;
    BUG_ON(out->failed);
    BUG_ON(json_parse((struct str){out->data, out->len}, ret, &err) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct str text = {(const char *)data, size};
    struct err err = ERR_INIT;
    struct buf out;
    json_t *v = NULL, *again = NULL;
    buf_init(&out, 64u << 20);
    if (json_parse(text, &v, &err) == 0) {
        json_put_value(&out, v);
        check_again(&out, &again);
        BUG_ON(!json_equal(v, again));
        json_decref(again);
        again = NULL;
    } else {
        BUG_ON(v || !err.code || !err.msg[0]);
    }
    buf_clear(&out);
    json_put_str(&out, text);
    check_again(&out, &again);
    BUG_ON(!json_is_string(again));
    json_decref(again);
    json_decref(v);
    buf_release(&out);
    return 0;
}
