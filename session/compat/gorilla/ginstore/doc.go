// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package ginstore is the package gorilla for github.com/gin-contrib/sessions,
// whose stores have one method more. It is apart so that nobody else compiles gin.
//
//	store, err := ginstore.New(redis, nil)
//	router.Use(sessions.Sessions("shop", store))
//
// Everything that package gorilla promises holds. It never makes a cookie that
// scripts can read or that travels over plain http, whatever gin's Options say,
// unless gorilla.Options.AllowInsecure is set: gin's Options replace all flags at
// once, and most who set a MaxAge there do not think of the others.
package ginstore
