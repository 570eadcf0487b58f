#include "clients/cli/cli_unreached.h"

#include <string.h>

#include "actors/result_codes.h"
#include "clients/cli/cli_cluster.h"
#include "engine/wire/tls.h"

enum { UNREACHED_LOOKED_AT_MAX = 5 };   /* the others are likely to have the same fault */

/* The next address of the list, and where the one after it begins; NULL behind the last. */
static const char *unreached_next(const char *at, char address[ENDPOINT_BYTES_MAX]) {
    size_t size = strcspn(at, ",");
    if (*at == 0) return NULL;
    snprintf(address, ENDPOINT_BYTES_MAX, "%.*s", (int)size, at);
    return at + size + (at[size] == ',');
}

/* Adds the line of an address that cannot be reached. True: it can. */
static bool unreached_look(const char *address, char *lines, size_t lines_bytes) {
    char sentence[REACH_SENTENCE_BYTES];
    if (reach_look(address, tls_of_environment(), sentence) == REACH_GOOD) return true;
    size_t used = strlen(lines);
    if (sentence[0] && used + strlen(address) + strlen(sentence) + 4 < lines_bytes)
        snprintf(lines + used, lines_bytes - used, "%s: %s\n", address, sentence);
    return false;
}

static bool unreached_waits(struct cli *cli, const char *address) {
    struct cluster_status status;
    if (!cluster_status_of(cli, address, &status)) return false;
    bool waits = cli_node_waits(status.map);
    cluster_status_free(&status);
    return waits;
}

void cli_unreached_node(struct cli *cli, jumun_result *r) {
    char address[ENDPOINT_BYTES_MAX];
    const char *at = cli->endpoint;
    bool waits = false, away = false, members = false;
    cli->unreached[0] = 0;
    if (r->code != JUMUN_NOT_SENT && r->code != RESULT_CLUSTER_NOT_FORMED) return;
    for (int i = 0; i < UNREACHED_LOOKED_AT_MAX && (at = unreached_next(at, address)); i++) {
        if (!unreached_look(address, cli->unreached, sizeof cli->unreached)) {
            away = true;
            continue;
        }
        if (!unreached_waits(cli, address)) {
            members = true;
            continue;
        }
        /* The library goes on trying, since the waiting may end at any moment. */
        waits = true;
        size_t used = strlen(cli->unreached);
        snprintf(cli->unreached + used, sizeof cli->unreached - used,
                 "%s: a node waits there to be taken into a cluster, and serves nothing\n",
                 address);
    }
    /* Others may be of a cluster that is there, and forming one is no way out then. */
    if (waits && !away && !members) r->code = RESULT_CLUSTER_NOT_FORMED;
    else if (r->code == RESULT_CLUSTER_NOT_FORMED && (away || members))
        r->code = members ? RESULT_NOT_LEADER : JUMUN_NOT_SENT;
}

const char *cli_unreached_why(const char *address, const char *otherwise,
                              char sentence[REACH_SENTENCE_BYTES]) {
    bool away = reach_look(address, tls_of_environment(), sentence) != REACH_GOOD;
    return away && sentence[0] ? sentence : otherwise;
}

void cli_tell_unreached(const char *addresses) {
    char address[ENDPOINT_BYTES_MAX], lines[2048] = "";
    const char *at = addresses;
    for (int i = 0; i < UNREACHED_LOOKED_AT_MAX && (at = unreached_next(at, address)); i++) {
        lines[0] = 0;
        unreached_look(address, lines, sizeof lines);
        fputs(lines, stderr);
    }
}
