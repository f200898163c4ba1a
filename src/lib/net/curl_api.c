/* SPDX-License-Identifier: Apache-2.0 */
/* Implements curl_api.h. */
#include "lib/net/curl_api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/sys/config.h"

struct curl_api curl;
static char load_error[256]; /* "" when curl is usable */
static pthread_once_t load_once = PTHREAD_ONCE_INIT;

static void load_curl(void)
{
    static const struct {
        const char *name;
        void **to;
    } wanted[] = {
        {"curl_global_init", (void **)&curl.global_init},
        {"curl_easy_init", (void **)&curl.easy_init},
        {"curl_easy_setopt", (void **)&curl.easy_setopt},
        {"curl_multi_init", (void **)&curl.multi_init},
        {"curl_multi_add_handle", (void **)&curl.multi_add_handle},
        {"curl_multi_remove_handle", (void **)&curl.multi_remove_handle},
        {"curl_multi_perform", (void **)&curl.multi_perform},
        {"curl_multi_poll", (void **)&curl.multi_poll},
        {"curl_multi_info_read", (void **)&curl.multi_info_read},
        {"curl_multi_cleanup", (void **)&curl.multi_cleanup},
        {"curl_easy_getinfo", (void **)&curl.easy_getinfo},
        {"curl_easy_cleanup", (void **)&curl.easy_cleanup},
        {"curl_easy_reset", (void **)&curl.easy_reset},
        {"curl_easy_strerror", (void **)&curl.easy_strerror},
        {"curl_slist_append", (void **)&curl.slist_append},
        {"curl_slist_free_all", (void **)&curl.slist_free_all},
    };
    void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        lib = dlopen("libcurl-gnutls.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        const char *why = dlerror();
        snprintf(load_error, sizeof(load_error),
                 "libcurl.so.4 cannot be loaded (%s): install libcurl4", why ? why : "not found");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        *wanted[i].to = dlsym(lib, wanted[i].name);
        if (!*wanted[i].to) {
            snprintf(load_error, sizeof(load_error), "libcurl has no %s: it is too old",
                     wanted[i].name);
            return;
        }
    }
    if (curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        snprintf(load_error, sizeof(load_error), "libcurl does not start");
}

int curl_api_load(struct err *err)
{
    pthread_once(&load_once, load_curl);
    return load_error[0] ? err_set(err, E_UNSUPPORTED, "%s", load_error) : 0;
}

static bool is_loopback(const char *url)
{
    static const char *const hosts[] = {"127.", "localhost", "[::1]"};
    const char *host = strstr(url, "://");
    if (!host)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        size_t n = strlen(hosts[i]);
        if (strncasecmp(host + 3, hosts[i], n) == 0 && (i == 0 || strchr(":/", host[3 + n])))
            return true;
    }
    return false;
}

void curl_choose_proxy(CURL *h, const char *url)
{
    const char *proxy = config_http_proxy();
    if (is_loopback(url))
        curl.easy_setopt(h, CURLOPT_NOPROXY, "*");
    else if (proxy && strncasecmp(url, "http://", 7) == 0)
        curl.easy_setopt(h, CURLOPT_PROXY, proxy);
}
