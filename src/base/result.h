// Result<T>: a value or an Error. The one way in which our own interfaces report failure.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace caisson {

// What failed, in one sentence a user can act on, and the errno(3) that says of what kind it is.
class [[nodiscard]] Error {
 public:
  // code: an errno value, never 0.
  Error(int code, std::string message) : code_(code == 0 ? EIO : code), message_(std::move(message)) {}

  int code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same error seen from further out: "context: message".
  Error within(std::string_view context) && {
    message_ = fmt::format("{}: {}", context, message_);
    return std::move(*this);
  }

 private:
  int code_;
  std::string message_;
};

// Error from errno as it is now: "<what>: <strerror>". Call it before anything else can change errno.
template <typename... Args>
Error errno_error(fmt::format_string<Args...> format, Args&&... args) {
  int code = errno;
  return Error(code, fmt::format("{}: {}", fmt::format(format, std::forward<Args>(args)...),
                                 strerrordesc_np(code) ? strerrordesc_np(code) : "unknown error"));
}

// Error with a given errno value and a message of its own.
template <typename... Args>
Error make_error(int code, fmt::format_string<Args...> format, Args&&... args) {
  return Error(code, fmt::format(format, std::forward<Args>(args)...));
}

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  void value() const {}

  const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

// The value of `expr`, a Result, or return its error from the enclosing function.
#define TRY(expr)                            \
  ({                                         \
    auto try_result_ = (expr);               \
    if (!try_result_.ok()) [[unlikely]]      \
      return std::move(try_result_).error(); \
    std::move(try_result_).value();          \
  })

}  // namespace caisson
