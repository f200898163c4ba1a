/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl.so.4, found at the first call (dlopen), so that what never speaks HTTP starts at once:
 * its constants are its ABI and come from its header, its functions from dlsym.  For lib/net alone.
 * Any thread. */
#ifndef LIB_NET_CURL_API_H
#define LIB_NET_CURL_API_H

#include <curl/curl.h>

#include "lib/base/err.h"

#undef curl_easy_setopt
#undef curl_easy_getinfo

struct curl_api {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    CURLcode (*easy_setopt)(CURL *h, CURLoption o, ...);
    CURLM *(*multi_init)(void);
    CURLMcode (*multi_add_handle)(CURLM *m, CURL *h);
    CURLMcode (*multi_remove_handle)(CURLM *m, CURL *h);
    CURLMcode (*multi_perform)(CURLM *m, int *n_running);
    CURLMcode (*multi_poll)(CURLM *m, struct curl_waitfd *extra, unsigned n_extra, int timeout_ms,
                            int *n_ready);
    CURLMsg *(*multi_info_read)(CURLM *m, int *n_left);
    CURLMcode (*multi_cleanup)(CURLM *m);
    CURLcode (*easy_getinfo)(CURL *h, CURLINFO i, ...);
    void (*easy_cleanup)(CURL *h);
    void (*easy_reset)(CURL *h);
    const char *(*easy_strerror)(CURLcode c);
    struct curl_slist *(*slist_append)(struct curl_slist *l, const char *s);
    void (*slist_free_all)(struct curl_slist *l);
};

/* Filled once curl_api_load has returned 0. */
extern struct curl_api curl;

/* E_UNSUPPORTED when libcurl is not there, or too old. */
int curl_api_load(struct err *err) MUST_USE;

/* The environment's proxy for url, and none for a loopback address. */
void curl_choose_proxy(CURL *h, const char *url);

#endif
