val v = "1.0"
dependencies {
  implementation("g:a:$v")
  implementation(platform("g:b:2"))
}
plugins { id("x") version "3" }

====
val v = "1.1"
dependencies {
  implementation("g:a:$v")
  implementation(platform("g:b:2"))
}
plugins { id("x") version "3" }
