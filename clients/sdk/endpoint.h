/* One address (or several that stand for the same) with what is known about its health. */
#ifndef JUMUN_SDK_ENDPOINT_H
#define JUMUN_SDK_ENDPOINT_H

#include "clients/sdk/circuit_breaker.h"
#include "clients/sdk/connection.h"

struct endpoint {
    struct connection connection;
    struct circuit_breaker breaker;
    char addresses[512];
};

#endif
